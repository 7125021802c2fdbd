"""A graph of texts on a device: pads them to sizes that come again, and runs one graph on one stream."""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import Started
from rankport.runtime.backends.devices.downloads import Downloads
from rankport.runtime.backends.devices.graph import DeviceArray, DeviceGraph
from rankport.runtime.backends.devices.memory import DeviceMemory
from rankport.runtime.backends.devices.uploads import Uploads
from rankport.runtime.backends.devices.workspace import Recordings
from rankport.runtime.backends.layouts.padded import RowForm, pad
from rankport.runtime.backends.layouts.sizes import lines, rounded
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Role
from rankport.runtime.tokens import TokenRuns

Takes = Callable[[Mapping[str, int]], bool]
"""Tells whether a graph takes a pass of these sizes, by the names of its axes."""


class DeviceTextBackend:
    """Implements `TextBackend`, or `TokenBackend` where its rows are of tokens. Owns and closes graph and memory."""

    def __init__(
        self,
        bundle: Bundle,
        role: Role,
        graph: DeviceGraph,
        memory: DeviceMemory,
        takes: Takes = lambda sizes: True,
    ) -> None:
        """Loads nothing. `takes` says which passes fit the graph; larger ones go in parts, single texts as they are."""
        self._graph, self._memory, self._takes = graph, memory, takes
        self._role, self._row = role, RowForm.of(bundle.graph(role))
        self._longest = bundle.manifest.max_text_tokens  # positions end there
        self._uploads = Uploads(memory)
        self._downloads: Downloads[np.floating] = Downloads(memory, np.dtype(self._row.dtype))
        self._recordings = Recordings()

    def compute(self, texts: TokenRuns) -> NDArray[np.floating]:
        """See `TextBackend.compute`."""
        return self.start(texts).results()

    def start(self, texts: TokenRuns) -> Started[np.floating]:
        """See `TextBackend.start`."""
        items = rounded(len(texts))
        item_tokens = min(lines(int(texts.lengths.max())), self._longest)
        if len(texts) > 1 and not self._takes({"items": items, "item_tokens": item_tokens}):
            half = len(texts) // 2
            parts = self.start(texts.part(0, half)), self.start(texts.part(half, len(texts)))
            return Started(lambda: np.concatenate([part.results() for part in parts]), done=False)
        padded, shape = pad(texts), self._row.padded(items, item_tokens)
        inputs = self._uploads.send(padded.inputs(items, item_tokens, self._graph.input_names))
        written = self._downloads.hold(math.prod(shape))
        outputs = {self._row.name: DeviceArray(written, shape, self._row.dtype)}
        fixed = self._recordings.number(self._role, (items, item_tokens), (self._uploads.pointer, written))
        with self._recordings.counted(fixed):
            self._graph.run(inputs, {}, outputs, fixed=fixed)
        started = self._downloads.fetch(self._row.padded(len(texts), item_tokens))
        if not self._row.of_tokens:
            return started
        return Started(lambda: padded.cut(started.results()), started.done)

    def close(self) -> None:
        """Frees the graph, the workspace and the stream."""
        with ExitStack() as freed:  # after an error of the device too: the last step first
            freed.callback(self._memory.close)
            freed.callback(self._uploads.release)
            freed.callback(self._downloads.release)
            freed.callback(self._graph.close)
            self._memory.mark()()
