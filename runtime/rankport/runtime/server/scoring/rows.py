"""Embedding tokens in the place of keys."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import Column, ItemColumns, stacked


def with_rows(
    items: ItemColumns, places: NDArray[np.int64], rows: Sequence[NDArray[np.floating]] | NDArray[np.floating]
) -> ItemColumns:
    """Returns items whose keys at these places are embedding tokens [k, hidden] instead; texts of keys are left out."""
    assert items.keys is not None, "they were keys"
    left = np.setdiff1d(items.keys.places, places, assume_unique=True)
    keys = None
    if len(left):
        kept = np.searchsorted(items.keys.places, left).tolist()
        keys = Column([items.keys.values[index] for index in kept], left)
    return replace(items, keys=keys, embeddings=_joined(items, places, rows), key_texts=None)


def _joined(
    items: ItemColumns, places: NDArray[np.int64], rows: Sequence[NDArray[np.floating]] | NDArray[np.floating]
) -> "Column[NDArray[np.floating] | Sequence[NDArray[np.floating]]] | None":
    if items.embeddings is None and not len(places):
        return None
    if items.embeddings is None and isinstance(rows, np.ndarray) and (np.diff(places) > 0).all():
        return Column(rows, places)
    own = items.embeddings
    values = [*(() if own is None else own.values), *rows]
    joined = places if own is None else np.concatenate([own.places, places])
    order = np.argsort(joined)
    return Column(stacked([values[index] for index in order.tolist()]), joined[order])
