"""A ranker of sets on a device: states of histories stay there, and rows of ids; graphs run on one stream.

Owns what crosses between host and device: features, times and slots of a pass in one copy, rows of ids that it
lacks in one a table, and its logits back in another.
"""

from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BackendError
from rankport.runtime.backends.contract import PrefixKV, RecordingCounts, Started
from rankport.runtime.backends.devices.graph import DeviceArray, DeviceGraph
from rankport.runtime.backends.devices.memory import DeviceMemory
from rankport.runtime.backends.devices.recordings import Recordings
from rankport.runtime.backends.devices.resident.kv import DeviceKV, KVLayout, KVPieces, NamedKV, Place
from rankport.runtime.backends.devices.resident.table import DeviceTable
from rankport.runtime.backends.devices.transfers.downloads import Downloads
from rankport.runtime.backends.devices.transfers.regions import Region
from rankport.runtime.backends.devices.transfers.uploads import Uploads
from rankport.runtime.backends.layouts.layout import HostArray
from rankport.runtime.backends.layouts.resident_rows import ResidentRows, Side
from rankport.runtime.backends.layouts.sets import (
    HISTORY,
    gathers_rows,
    history_inputs,
    kept_states,
    rank_inputs,
    rank_role,
)
from rankport.runtime.backends.layouts.sizes import lines
from rankport.runtime.backends.set_contract import FeatureRows, History, RowCounts, StoredRows
from rankport.runtime.bundle.manifest import DType, Manifest, Role


class DeviceSetBackend:
    """Implements `SetBackend`. Owns and closes the graphs and the memory.

    Events and candidates are padded to sizes that come again. A history is not: it has the length that it has, and a
    pass comes again with the same one.
    """

    def __init__(
        self,
        manifest: Manifest,
        graphs: Mapping[Role, DeviceGraph],
        memory: DeviceMemory,
        resident: ResidentRows[DeviceTable] | None = None,
    ) -> None:
        """Loads nothing. Makes room for the longest history. `resident`: of graphs that gather rows of ids."""
        assert manifest.labels is not None
        assert manifest.sets is not None
        self._graphs, self._memory, self._resident = graphs, memory, resident
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

    @property
    def rows(self) -> RowCounts | None:
        """See `SetBackend.rows`."""
        return None if self._resident is None else self._resident.counts()

    def read_ahead(self, events: FeatureRows, candidates: FeatureRows) -> None:
        """See `SetBackend.read_ahead`."""
        if self._resident is not None:
            self._resident.read_ahead("event", events)
            self._resident.read_ahead("candidate", candidates)

    def extend(self, past: History, events: FeatureRows, times: NDArray[np.int64]) -> DeviceKV:
        """See `SetBackend.extend`."""
        rows = lines(len(events))
        self._new.hold(self._pieces.layout.nbytes(1, rows))
        block = Place(self._new.pointer, 1, rows)
        inputs = history_inputs(past.times, events, self._slots("event", events), times, rows)
        self._run(HISTORY, past, rows, inputs, self._new_of.at(block.pointer, 1, rows))
        return self._pieces.taken(block, len(events))

    def start(
        self,
        past: History,
        now: int,
        candidates: FeatureRows,
        sessions: NDArray[np.int64] | None = None,
    ) -> Started[np.float32]:
        """See `SetBackend.start`."""
        rows = lines(len(candidates))
        written = self._downloads.hold(rows * self._heads)
        logits = {"logits": DeviceArray(written, (rows, self._heads), "float32")}
        slots = self._slots("candidate", candidates)
        inputs = rank_inputs(past.times, now, candidates, slots, sessions, rows)
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
            for block in () if self._resident is None else self._resident.blocks.values():
                freed.callback(block.release)
            for graph in self._graphs.values():
                freed.callback(graph.close)
            self._memory.mark()()

    def _slots(self, side: Side, rows: FeatureRows) -> NDArray[np.int32] | None:
        return None if self._resident is None else self._resident.slots(side, rows)

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
        if self._resident is not None:
            blocks = self._resident.blocks.items()
            sent |= {name: block.with_sent(None) for name, block in blocks if name in graph.input_names}
        written = next(iter(outputs.values())).pointer
        addresses = (self._uploads.pointer, self._past.pointer, written)
        fixed = self._recordings.number(role, (rows, events), addresses)
        with self._recordings.counted(fixed):
            graph.run(sent, {}, outputs, fixed=fixed)


def device_rows(
    manifest: Manifest, memory: DeviceMemory, stored: StoredRows, limit_bytes: int
) -> ResidentRows[DeviceTable] | None:
    """Allocates the blocks of id tables on a device; None where graphs gather no rows.

    Raises BackendError when the device has less memory.
    """
    assert manifest.sets is not None
    if not gathers_rows(manifest):
        return None

    def allocate(rows: int, width: int, dtype: DType) -> DeviceTable:
        return DeviceTable(memory, rows, 0, width, dtype)

    try:
        return ResidentRows(manifest.sets, stored, limit_bytes, allocate)
    except BackendError as error:
        raise BackendError(
            f"the GPU has no {limit_bytes / 2**30:.1f} GiB for rows of ids, or none for those of a pass: lower "
            f"--device-rows ({error})"
        ) from error
