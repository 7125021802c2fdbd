"""A graph of texts on a device: pads them to sizes that come again, and runs one graph on one stream."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import Started
from rankport.runtime.backends.devices.graph import DeviceGraph
from rankport.runtime.backends.devices.memory import DeviceMemory
from rankport.runtime.backends.devices.passes import GraphPasses
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
        self._takes, self._row = takes, RowForm.of(bundle.graph(role))
        self._passes = GraphPasses(role, graph, memory, self._row.name, np.dtype(self._row.dtype))
        self._longest = bundle.manifest.max_text_tokens  # positions end there

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
        padded = pad(texts)
        started = self._passes.start(
            padded.inputs(items, item_tokens, self._passes.input_names),
            self._row.padded(items, item_tokens),
            self._row.padded(len(texts), item_tokens),
        )
        if not self._row.of_tokens:
            return started
        return Started(lambda: padded.cut(started.results()), started.done)

    def close(self) -> None:
        """Frees the graph, the workspace and the stream."""
        self._passes.close()
