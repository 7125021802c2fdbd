"""Random requests of a shape: the same tokens for every contender."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.workload.shapes import ModelShape, RequestShape

EMBEDDED = -1
LABEL_IDS = (5, 9)
END_ID = 2
"""The special token that follows an item's embedding; `[EOS]` in the prompt."""
_FIRST_ID = 3
_EMBEDDING_STD = 0.036  # as the rows of the embedding table


@dataclass(frozen=True, slots=True)
class Query:
    """One request as a caller gives it."""

    prefix: NDArray[np.int64]  # [prefix]
    items: NDArray[np.int64] | NDArray[np.float16]  # [items, item - 1 special] or [items, 1, hidden]


def random_query(model: ModelShape, request: RequestShape, seed: int) -> Query:
    """Seeded. The prompt of embedding tokens ends every item with one special token, which a caller does not give."""
    rng = np.random.default_rng([seed, request.items, request.item])
    prefix = random_prefix(model, request, rng)
    if request.mixed:
        rows = rng.standard_normal((request.items, 1, model.hidden), np.float32) * np.float32(_EMBEDDING_STD)
        return Query(prefix, rows.astype(np.float16))
    length = request.item - 1 if model.mix else request.item
    return Query(prefix, rng.integers(_FIRST_ID, model.vocabulary, (request.items, length)))


def random_prefix(model: ModelShape, request: RequestShape, rng: np.random.Generator) -> NDArray[np.int64]:
    """[prefix]"""
    return rng.integers(_FIRST_ID, model.vocabulary, request.prefix)


def item_ids(model: ModelShape, query: Query) -> NDArray[np.int64]:
    """All tokens of the items, EMBEDDED where an embedding stands. [items, item]"""
    items = query.items
    ids = np.asarray(items if items.ndim == 2 else np.full(items.shape[:2], EMBEDDED), np.int64)
    if not model.mix:
        return ids
    return np.concatenate([ids, np.full((len(ids), 1), END_ID)], axis=1)
