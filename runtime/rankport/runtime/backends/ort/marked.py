"""ONNX Runtime on the CPU: the backend of texts that are read at markers."""

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import Started
from rankport.runtime.backends.layouts.layout import EmbeddingsForm
from rankport.runtime.backends.layouts.marked import Marked
from rankport.runtime.backends.ort.session import Session
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Role
from rankport.runtime.config import EngineConfig
from rankport.runtime.tokens import TokenRuns


class OnnxRuntimeMarkedBackend:
    """A graph of texts with markers on the CPU. Implements `MarkedBackend`."""

    def __init__(self, bundle: Bundle, role: Role, config: EngineConfig | None = None) -> None:
        """Loads the graph. Raises `BundleError` if it cannot be loaded."""
        manifest = bundle.manifest
        assert manifest.lists is not None, "a rule of the kind"
        self._graph = Session(bundle, role, config or EngineConfig())
        self._markers = np.array(manifest.lists.marker_ids, np.int64)
        self._embeddings = EmbeddingsForm(manifest.shape.hidden_size)

    def compute(self, texts: TokenRuns) -> NDArray[np.floating]:
        """See `MarkedBackend.compute`. Texts are padded to the longest."""
        marked = Marked.of(texts, self._markers)
        inputs = marked.inputs(marked.sizes, self._embeddings)
        return marked.cut(self._graph.run({name: value.array() for name, value in inputs.items()})[0])

    def start(self, texts: TokenRuns) -> Started[np.floating]:
        """See `MarkedBackend.start`. Nothing goes on beside it on a CPU."""
        rows = self.compute(texts)
        return Started(lambda: rows, done=True)

    def close(self) -> None:
        """Frees the session."""
        self._graph.close()
