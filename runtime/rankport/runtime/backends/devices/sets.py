"""A ranker of sets on a device: states of histories stay there, candidates are padded, graphs run on one stream.

Owns what crosses between host and device: features and times of a pass in one copy, its logits back in another.
"""

from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import History, PrefixKV, RecordingCounts, Started
from rankport.runtime.backends.devices.downloads import Downloads
from rankport.runtime.backends.devices.graph import DeviceArray, DeviceGraph
from rankport.runtime.backends.devices.kv import DeviceKV, KVLayout, KVPieces, NamedKV, Place
from rankport.runtime.backends.devices.memory import DeviceMemory
from rankport.runtime.backends.devices.uploads import Uploads
from rankport.runtime.backends.devices.workspace import Recordings, Region
from rankport.runtime.backends.layouts.layout import HostArray
from rankport.runtime.backends.layouts.sets import (
    HISTORY,
    history_inputs,
    kept_states,
    rank_inputs,
    rank_role,
)
from rankport.runtime.backends.layouts.sizes import lines
from rankport.runtime.bundle.manifest import Manifest, Role


class DeviceSetBackend:
    """Implements `SetBackend`. Owns and closes the graphs and the memory.

    Events and candidates are padded to sizes that come again. A history is not: it has the length that it has, and a
    pass comes again with the same one.
    """

    def __init__(self, manifest: Manifest, graphs: Mapping[Role, DeviceGraph], memory: DeviceMemory) -> None:
        """Loads nothing. Makes room for the longest history."""
        assert manifest.labels is not None
        assert manifest.sets is not None
        self._graphs, self._memory = graphs, memory
        self._heads = len(manifest.labels.names)
        history = next(graph for graph in manifest.graphs if graph.role == HISTORY)
        kept = kept_states(manifest.shape.layers, history.outputs[0].dtype)
        layout = KVLayout(kept, several=False)
        self._pieces = KVPieces(layout, memory)
        names, past = [tensor.new for tensor in kept], [tensor.past for tensor in kept]
        self._new_of = NamedKV(layout, names, frozenset(names))
        self._past_of = {role: NamedKV(layout, past, graph.input_names) for role, graph in graphs.items()}
        self._uploads, self._downloads = Uploads(memory), Downloads(memory, np.dtype(np.float32))
        self._past, self._new = Region(memory), Region(memory)
        self._past.hold(layout.nbytes(1, manifest.sets.max_events))
        self._recordings = Recordings()

    @property
    def recordings(self) -> RecordingCounts:
        """See `SetBackend.recordings`."""
        return self._recordings.counts

    def extend(self, past: History, events: NDArray[np.float32], times: NDArray[np.int64]) -> DeviceKV:
        """See `SetBackend.extend`."""
        rows = lines(len(events))
        self._new.hold(self._pieces.layout.nbytes(1, rows))
        block = Place(self._new.pointer, 1, rows)
        inputs = history_inputs(past.times, events, times, rows)
        self._run(HISTORY, past, rows, inputs, self._new_of.at(block.pointer, 1, rows))
        return self._pieces.taken(block, len(events))

    def start(
        self,
        past: History,
        now: int,
        candidates: NDArray[np.float32],
        sessions: NDArray[np.int64] | None = None,
    ) -> Started[np.float32]:
        """See `SetBackend.start`."""
        rows = lines(len(candidates))
        written = self._downloads.hold(rows * self._heads)
        logits = {"logits": DeviceArray(written, (rows, self._heads), "float32")}
        inputs = rank_inputs(past.times, now, candidates, sessions, rows)
        self._run(rank_role(sessions, self._graphs), past, rows, inputs, logits)
        return self._downloads.fetch((len(candidates), self._heads))

    def split(self, state: PrefixKV, length: int) -> tuple[DeviceKV, DeviceKV]:
        """See `SetBackend.split`."""
        return self._pieces.split(state, length)

    def close(self) -> None:
        """Frees the graphs, the workspace and the stream."""
        with ExitStack() as freed:  # after an error of the device too: the last step first
            freed.callback(self._memory.close)
            for held in (self._uploads, self._downloads, self._past, self._new):
                freed.callback(held.release)
            for graph in self._graphs.values():
                freed.callback(graph.close)
            self._memory.mark()()

    def _run(
        self,
        role: Role,
        past: History,
        rows: int,
        inputs: Mapping[str, HostArray],
        outputs: Mapping[str, DeviceArray],
    ) -> None:
        """Enqueues one pass behind a past, whose pieces are put behind each other first."""
        graph, events = self._graphs[role], len(past.times)
        sent = self._uploads.send({name: inputs[name] for name in inputs if name in graph.input_names})
        self._pieces.put(past.state, Place(self._past.pointer, 1, events))
        sent |= self._past_of[role].at(self._past.pointer, 1, events)
        written = next(iter(outputs.values())).pointer
        addresses = (self._uploads.pointer, self._past.pointer, written)
        fixed = self._recordings.number(role, (rows, events), addresses)
        with self._recordings.counted(fixed):
            graph.run(sent, {}, outputs, fixed=fixed)
