"""ONNX Runtime on the CPU: the backends of prefixes, texts and arrays.

Its package alone imports onnxruntime.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixBatch, Started
from rankport.runtime.backends.layouts.padded import RowForm, pad
from rankport.runtime.backends.ort.host_kv import HostKV
from rankport.runtime.backends.ort.prefixes import PrefixGraph, split_kv
from rankport.runtime.backends.ort.session import Session
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Role
from rankport.runtime.config import EngineConfig
from rankport.runtime.tokens import TokenRuns


class OnnxRuntimePrefixBackend:
    """The `prefix` and `score` graphs of a bundle on the CPU. Implements `PrefixBackend`."""

    table = None
    recordings = None

    def __init__(self, bundle: Bundle, config: EngineConfig | None = None) -> None:
        self._prefix = PrefixGraph(bundle, config or EngineConfig())
        self._score = self._prefix.of_role("score")
        self.split = None if self._prefix.states else split_kv

    def prefill(self, batch: PrefixBatch) -> tuple[HostKV, ...]:
        """See `PrefixBackend.prefill`."""
        return self._prefix.prefill(batch)

    def score(self, batch: PrefixBatch) -> NDArray[np.float32]:
        """See `PrefixBackend.score`."""
        inputs, _ = self._prefix.inputs(batch)
        return self._score.run(inputs | {"kv_slots": np.zeros(1, np.int64)})[0]

    def start(self, batch: PrefixBatch) -> Started[np.float32]:
        """See `PrefixBackend.start`. Nothing goes on beside it on a CPU."""
        logits = self.score(batch)
        return Started(lambda: logits, done=True)

    def close(self) -> None:
        """Frees the sessions."""
        self._prefix.close()
        self._score.close()


class OnnxRuntimeTextBackend:
    """A graph of texts on the CPU. Implements `TextBackend`, or `TokenBackend` where its rows are of tokens."""

    def __init__(self, bundle: Bundle, role: Role, config: EngineConfig | None = None) -> None:
        self._graph = Session(bundle, role, config or EngineConfig())
        self._row = RowForm.of(bundle.graph(role))

    def compute(self, texts: TokenRuns) -> NDArray[np.floating]:
        """See `TextBackend.compute`. Texts are padded to the longest."""
        padded = pad(texts)
        items, longest = padded.ids.shape
        inputs = padded.inputs(items, longest, self._graph.input_names)
        rows: NDArray[np.floating] = self._graph.run({name: value.array() for name, value in inputs.items()})[
            0
        ]
        return padded.cut(rows) if self._row.of_tokens else rows

    def start(self, texts: TokenRuns) -> Started[np.floating]:
        """See `TextBackend.start`. Nothing goes on beside it on a CPU."""
        rows = self.compute(texts)
        return Started(lambda: rows, done=True)

    def close(self) -> None:
        """Frees the session."""
        self._graph.close()


class OnnxRuntimeArrayGraph:
    """A graph of plain arrays on the CPU. Implements `ArrayGraph`."""

    def __init__(self, bundle: Bundle, role: Role, config: EngineConfig | None = None) -> None:
        self._graph = Session(bundle, role, config or EngineConfig())

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """See `ArrayGraph.run`."""
        return self._graph.run(inputs)[0]

    def close(self) -> None:
        """Frees the session."""
        self._graph.close()
