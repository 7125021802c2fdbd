"""ONNX Runtime on the CPU: the backend of histories and of the candidates behind them."""

from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import History, PrefixKV, Started
from rankport.runtime.backends.layouts.layout import HostArray
from rankport.runtime.backends.layouts.sets import (
    HISTORY,
    history_inputs,
    kept_states,
    rank_inputs,
    rank_role,
)
from rankport.runtime.backends.ort.host_kv import Array, HostKV, joined_past
from rankport.runtime.backends.ort.prefixes import split_kv
from rankport.runtime.backends.ort.session import Session
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Role
from rankport.runtime.config import EngineConfig


class OnnxRuntimeSetBackend:
    """The graphs of a ranker of sets on the CPU. Implements `SetBackend`."""

    recordings = None

    def __init__(self, bundle: Bundle, config: EngineConfig | None = None) -> None:
        """Loads the graphs. Raises `BundleError` if one cannot be loaded."""
        self._kept = kept_states(bundle.manifest.shape.layers, "float32")
        self._graphs: dict[Role, Session] = {}
        with ExitStack() as loaded:
            for graph in bundle.manifest.graphs:
                session = Session(bundle, graph.role, config or EngineConfig())
                self._graphs[graph.role] = session
                loaded.callback(session.close)
            loaded.pop_all()

    def extend(self, past: History, events: NDArray[np.float32], times: NDArray[np.int64]) -> HostKV:
        """See `SetBackend.extend`."""
        graph = self._graphs[HISTORY]
        outputs = graph.run(self._given(past, history_inputs(past.times, events, times, len(events))))
        state = dict(zip(graph.output_names, outputs, strict=True))
        return HostKV(tuple(state[tensor.new][None] for tensor in self._kept))

    def start(
        self,
        past: History,
        now: int,
        candidates: NDArray[np.float32],
        sessions: NDArray[np.int64] | None = None,
    ) -> Started[np.float32]:
        """See `SetBackend.start`. Nothing goes on beside it on a CPU."""
        inputs = rank_inputs(past.times, now, candidates, sessions, len(candidates))
        logits = self._graphs[rank_role(sessions, self._graphs)].run(self._given(past, inputs))[0]
        return Started(lambda: logits, done=True)

    def split(self, state: PrefixKV, length: int) -> tuple[HostKV, HostKV]:
        """See `SetBackend.split`."""
        return split_kv(state, length)

    def close(self) -> None:
        """Frees the sessions."""
        for graph in self._graphs.values():
            graph.close()

    def _given(self, past: History, inputs: Mapping[str, HostArray]) -> dict[str, Array]:
        state = joined_past([past.state], np.array([len(past.times)]), self._kept)
        given: dict[str, Array] = {name: value.array() for name, value in inputs.items()}
        return given | {name: layer[0] for name, layer in state.items()}
