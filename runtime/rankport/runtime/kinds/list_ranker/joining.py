"""Rows at markers to the logits of items: a cosine of item and query, and how blocks of one request are joined."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.bundle.sections.lists import Lists

_LEAST_NORM = 1e-8


@dataclass(frozen=True, slots=True)
class BlockRows:
    """Rows of a request apart: those of items, and those of queries."""

    items: NDArray[np.float64]  # [items, width]
    queries: NDArray[np.float64] | None  # [blocks, width]; None: a logit has none

    @classmethod
    def of(cls, rows: NDArray[np.floating], blocks: NDArray[np.int64], lists: Lists) -> Self:
        """Takes rows at the markers of all blocks apart, which stand in the order of the prompt."""
        exact = rows.astype(np.float64)
        if lists.alone:
            return cls(exact[1:], exact[:1])
        if not lists.marks_query:
            return cls(exact, None)
        starts = blocks[:-1] + np.arange(len(blocks) - 1)  # a query stands before each block but the first
        places = starts if lists.query_first else starts + np.diff(blocks)
        return cls(np.delete(exact, places, axis=0), exact[places])


def item_logits(rows: BlockRows, blocks: NDArray[np.int64], lists: Lists) -> NDArray[np.float32]:
    """Computes what is said of each item. [items, 1]

    `independent`: each block by itself. `mean-query`: the cosine to the mean of the blocks' queries, each weighted by
    the largest (1 + cosine) / 2 in its own block. `first`: all, those in no block too, to the query of the one.
    """
    if rows.queries is None:
        return rows.items.astype(np.float32)
    if lists.join == "first":
        return _cosines(rows.items, rows.queries)[:, None].astype(np.float32)
    counts = np.diff(blocks)
    own = _cosines(rows.items, np.repeat(rows.queries, counts, axis=0))
    if lists.join == "mean-query" and len(counts) > 1:
        weights = np.maximum.reduceat((1 + own) / 2, blocks[:-1])
        mean = (weights[:, None] * rows.queries).sum(axis=0) / weights.sum()
        own = _cosines(rows.items, mean[None])
    return own[:, None].astype(np.float32)


def _cosines(items: NDArray[np.float64], queries: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(items, axis=1) * np.linalg.norm(queries, axis=1)
    cosines: NDArray[np.float64] = (items * queries).sum(axis=1) / np.maximum(norms, _LEAST_NORM)
    return cosines
