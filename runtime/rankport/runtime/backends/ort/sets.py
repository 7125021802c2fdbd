"""ONNX Runtime on the CPU: the backend of histories and of the candidates behind them."""

from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixKV, Started
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
from rankport.runtime.backends.ort.host_kv import Array, HostKV, joined_past
from rankport.runtime.backends.ort.prefixes import split_kv
from rankport.runtime.backends.ort.session import Session
from rankport.runtime.backends.set_contract import FeatureRows, History, RowCounts, StoredRows
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import DType, Role
from rankport.runtime.config import EngineConfig


class HostBlock:
    """Rows [rows, width] in host memory. Implements `TokenTable`."""

    def __init__(self, rows: int, width: int, dtype: DType) -> None:
        self.array: Array = np.zeros((rows, width), dtype)

    @property
    def rows(self) -> int:
        """See `TokenTable.rows`."""
        return len(self.array)

    def write(self, row: int, tokens: Array) -> None:
        """See `TokenTable.write`."""
        self.array[row : row + len(tokens)] = tokens


class OnnxRuntimeSetBackend:
    """The graphs of a ranker of sets on the CPU. Implements `SetBackend`."""

    recordings = None

    def __init__(
        self, bundle: Bundle, config: EngineConfig | None = None, stored: StoredRows | None = None
    ) -> None:
        """Loads the graphs. `stored`: for those that gather rows of ids, which are copied to blocks as on a device.

        Raises `BundleError` if one cannot be loaded.
        """
        manifest = bundle.manifest
        assert manifest.sets is not None
        self._resident: ResidentRows[HostBlock] | None = None
        if gathers_rows(manifest):
            assert stored is not None, "graphs that gather rows are given none"
            self._resident = ResidentRows(manifest.sets, stored, 0, HostBlock)
        self._kept = kept_states(manifest.shape.layers, "float32")
        self._graphs: dict[Role, Session] = {}
        with ExitStack() as loaded:
            for graph in manifest.graphs:
                session = Session(bundle, graph.role, config or EngineConfig())
                self._graphs[graph.role] = session
                loaded.callback(session.close)
            loaded.pop_all()

    @property
    def rows(self) -> RowCounts | None:
        """See `SetBackend.rows`. The blocks are no copy that saves anything here: there is none to tell of."""
        return None

    def read_ahead(self, events: FeatureRows, candidates: FeatureRows) -> None:
        """See `SetBackend.read_ahead`. What a pass reads here, its own thread may wait for."""

    def extend(self, past: History, events: FeatureRows, times: NDArray[np.int64]) -> HostKV:
        """See `SetBackend.extend`."""
        graph = self._graphs[HISTORY]
        slots = self._slots("event", events)
        outputs = graph.run(self._given(past, history_inputs(past.times, events, slots, times, len(events))))
        state = dict(zip(graph.output_names, outputs, strict=True))
        return HostKV(tuple(state[tensor.new][None] for tensor in self._kept))

    def start(
        self,
        past: History,
        now: int,
        candidates: FeatureRows,
        sessions: NDArray[np.int64] | None = None,
    ) -> Started[np.float32]:
        """See `SetBackend.start`. Nothing goes on beside it on a CPU."""
        slots = self._slots("candidate", candidates)
        inputs = rank_inputs(past.times, now, candidates, slots, sessions, len(candidates))
        logits = self._graphs[rank_role(sessions, self._graphs)].run(self._given(past, inputs))[0]
        return Started(lambda: logits, done=True)

    def split(self, state: PrefixKV, length: int) -> tuple[HostKV, HostKV]:
        """See `SetBackend.split`."""
        return split_kv(state, length)

    def close(self) -> None:
        """Frees the sessions."""
        for graph in self._graphs.values():
            graph.close()

    def _slots(self, side: Side, rows: FeatureRows) -> NDArray[np.int32] | None:
        return None if self._resident is None else self._resident.slots(side, rows)

    def _given(self, past: History, inputs: Mapping[str, HostArray]) -> dict[str, Array]:
        state = joined_past([past.state], np.array([len(past.times)]), self._kept)
        given: dict[str, Array] = {name: value.array() for name, value in inputs.items()}
        given |= {name: layer[0] for name, layer in state.items()}
        blocks = {} if self._resident is None else self._resident.blocks
        return given | {name: block.array for name, block in blocks.items()}
