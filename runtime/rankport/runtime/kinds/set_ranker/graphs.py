"""The graphs of a ranker of sets, as the engine calls them."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.choice import load_array_graph, require_cpu
from rankport.runtime.backends.contract import ArrayGraph
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.set_ranker.rules import HISTORY, RANK, RANK_SET
from rankport.runtime.kinds.set_ranker.states import Layer, StatePiece

Values = NDArray[np.float32]


class SetGraphs:
    """Loaded graphs: events to their state; state and candidates to logits. They run on the CPU."""

    def __init__(self, bundle: Bundle, config: EngineConfig) -> None:
        """Loads them. Raises as `load_array_graph`, InvalidRequest for another device too."""
        require_cpu(bundle, config)
        self.shapes = [(layer.kv_heads, layer.head_dim) for layer in bundle.manifest.shape.layers]
        roles = {graph.role for graph in bundle.manifest.graphs}
        self._graphs: dict[str, ArrayGraph] = {}
        with ExitStack() as loaded:
            for role in (HISTORY, RANK, RANK_SET):
                if role in roles:
                    self._graphs[role] = load_array_graph(bundle, role, config)
                    loaded.callback(self._graphs[role].close)
            loaded.pop_all()

    def history(
        self, events: Values, times: NDArray[np.int64], past: Sequence[Layer], past_times: NDArray[np.int64]
    ) -> StatePiece:
        """Computes the state of events [new, width] behind a past. Times [new], [past]"""
        given: dict[str, NDArray[np.generic]] = {
            "events": events,
            "times": times,
            "past_times": past_times,
            **_layers("past", past),
        }
        state = self._graphs[HISTORY].run_all(given)
        return StatePiece(tuple(state[name] for name in _names("state", len(self.shapes))))

    def rank(
        self,
        candidates: Values,
        past: Sequence[Layer],
        past_times: NDArray[np.int64],
        now: int,
        sessions: NDArray[np.int64] | None,
    ) -> Values:
        """Scores candidates [candidates, width] behind a history: each by itself, or with those of its session.

        Returns logits. [candidates, heads]
        """
        role = RANK if sessions is None or RANK_SET not in self._graphs else RANK_SET
        given: dict[str, NDArray[np.generic]] = {
            "candidates": candidates,
            "past_times": past_times,
            "now": np.array([now], np.int64),
            **_layers("past", past),
        }
        if sessions is not None:
            given["sessions"] = sessions
        return self._graphs[role].run_all(given)["logits"]

    def close(self) -> None:
        """Frees them."""
        for graph in self._graphs.values():
            graph.close()


def _names(what: str, layers: int) -> list[str]:
    return [f"{what}_{part}.{layer}" for layer in range(layers) for part in ("key", "value")]


def _layers(what: str, layers: Sequence[Layer]) -> Mapping[str, NDArray[np.generic]]:
    return dict(zip(_names(what, len(layers) // 2), layers, strict=True))
