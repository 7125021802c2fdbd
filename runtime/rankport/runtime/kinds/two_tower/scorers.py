"""Scores of representations that are given: by the bundle's graph, or their cosine.

A representation is [vectors, width], of one vector but in late interaction.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.choice import load_array_graph
from rankport.runtime.backends.contract import ArrayGraph
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.two_tower.rules import SCORE, is_late, is_sparse

Rows = NDArray[np.float32]
_LEAST_NORM = np.float32(1e-12)
_WIDE_ITEMS = 256
"""Items of late interaction, or with weights of a vocabulary, that are scored at once: they have many values each."""


class RowScorer(Protocol):
    """Scores of items against a query, both by their representations. Any thread may ask for them."""

    @property
    def most_items(self) -> int | None:
        """Items that are scored at once; None: all of a request."""

    def logits(self, query: Rows, items: Rows, features: Rows | None) -> Rows:
        """Scores items [items, vectors, width] against the query [vectors, width], features [items, features].

        Returns the logits. [items, outputs]
        """

    def close(self) -> None:
        """Frees what it holds."""


class GraphScorer:
    """The `score` graph of a bundle, on the CPU beside every device: it is small, its inputs lie in host memory."""

    def __init__(self, bundle: Bundle, config: EngineConfig) -> None:
        self._graph: ArrayGraph = load_array_graph(bundle, SCORE, config)
        self._late, self._sparse = is_late(bundle.manifest), is_sparse(bundle.manifest)

    @property
    def most_items(self) -> int | None:
        """See `RowScorer.most_items`."""
        return _WIDE_ITEMS if self._late or self._sparse else None

    def logits(self, query: Rows, items: Rows, features: Rows | None) -> Rows:
        """See `RowScorer.logits`."""
        if not self._late:
            query, items = query[0], items[:, 0]
        inputs: Mapping[str, Rows] = {"query": query, "items": items}
        return self._graph.run(inputs if features is None else {**inputs, "features": features})

    def close(self) -> None:
        """Frees the graph."""
        self._graph.close()


class CosineScorer:
    """The cosine: score of an item encoder's tokens."""

    most_items: int | None = None

    def logits(self, query: Rows, items: Rows, features: Rows | None) -> Rows:
        """See `RowScorer.logits`. One output, the same for equal items wherever they stand."""
        query, items = query[0], items[:, 0]
        norms = np.maximum(np.linalg.norm(items, axis=1), _LEAST_NORM)
        norms *= max(np.linalg.norm(query), _LEAST_NORM)
        cosines: Rows = np.einsum("iw,w->i", items, query)  # a product of BLAS adds in another order by place
        cosines /= norms
        return cosines[:, None]

    def close(self) -> None:
        """Does nothing: it holds nothing."""
