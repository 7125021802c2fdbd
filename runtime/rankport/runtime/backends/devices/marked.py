"""A graph of texts that are read at markers on a device: lists padded to sizes that come again, rows fetched."""

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import Started
from rankport.runtime.backends.devices.graph import DeviceGraph
from rankport.runtime.backends.devices.memory import DeviceMemory
from rankport.runtime.backends.devices.passes import GraphPasses
from rankport.runtime.backends.devices.resident.table import embeddings_dtype
from rankport.runtime.backends.layouts.layout import Cast, EmbeddingsForm, cast_by_numpy
from rankport.runtime.backends.layouts.marked import Marked
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Role
from rankport.runtime.tokens import TokenRuns


class DeviceMarkedBackend:
    """Implements `MarkedBackend`. Owns and closes graph and memory."""

    def __init__(
        self,
        bundle: Bundle,
        role: Role,
        graph: DeviceGraph,
        memory: DeviceMemory,
        *,
        cast: Cast = cast_by_numpy,
    ) -> None:
        """Loads nothing. `cast` is of embeddings to the graph's type."""
        manifest = bundle.manifest
        assert manifest.lists is not None, "a rule of the kind"
        (output,) = bundle.graph(role).outputs
        self._passes = GraphPasses(role, graph, memory, output.name, np.dtype(np.float32))
        self._markers, self._width = np.array(manifest.lists.marker_ids, np.int64), manifest.lists.width
        self._longest = manifest.max_text_tokens  # positions end there
        dtype = np.dtype(embeddings_dtype(manifest))
        self._embeddings = EmbeddingsForm(manifest.shape.hidden_size, dtype, cast=cast)

    def compute(self, texts: TokenRuns) -> NDArray[np.floating]:
        """See `MarkedBackend.compute`."""
        return self.start(texts).results()

    def start(self, texts: TokenRuns) -> Started[np.floating]:
        """See `MarkedBackend.start`."""
        marked = Marked.of(texts, self._markers)
        sizes = marked.sizes.rounded(self._longest)
        row = (sizes.marks, self._width)
        inputs = marked.inputs(sizes, self._embeddings)
        started = self._passes.start(inputs, (sizes.lists, *row), (len(texts), *row))
        return Started(lambda: marked.cut(started.results()), started.done)

    def close(self) -> None:
        """Frees the graph, the workspace and the stream."""
        self._passes.close()
