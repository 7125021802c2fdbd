"""Rankings of two towers over batch sizes: whether an item's place depends on what it was represented beside."""

from collections.abc import Callable, Mapping
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.kinds.texts.rows import runs_of
from rankport.exporters.kinds.two_tower.proof.reference import Rows, TowersReference
from rankport.exporters.kinds.two_tower.proof.samples import TowerSamples
from rankport.exporters.proof.batches import batch_independence
from rankport.exporters.proof.compare import TIE, RankValues
from rankport.exporters.proof.emulation import Runnable
from rankport.runtime.backends.choice import load_text_backend
from rankport.runtime.bundle.manifest import BatchIndependence
from rankport.runtime.kinds.two_tower.rules import role_of

_FLOAT16_TIE = 1e-3
"""Scores of float16 representations closer than this have no order: the last bit of a sum decides a rounding."""


def rankings_by_size(
    by_size: Mapping[int, NDArray[np.floating]],
    reference: TowersReference,
    samples: TowerSamples,
    values: RankValues,
) -> BatchIndependence:
    """Compares how the source's score ranks the items' representations [items, vectors, width] of each batch size."""
    queries = reference.represent(samples.queries, "query")

    def rankings(items: NDArray[np.floating]) -> list[NDArray[np.float64]]:
        rows: Rows = items.astype(np.float32)
        return [
            values(reference.logits(query, rows, own))
            for query, own in zip(queries, samples.features, strict=True)
        ]

    rounded = any(rows.dtype == np.float16 for rows in by_size.values())
    ranked = {size: rankings(rows) for size, rows in by_size.items()}
    return batch_independence(ranked, _FLOAT16_TIE if rounded else TIE)


def rows_by_size(
    place: Runnable, samples: TowerSamples, on_size: Callable[[int], None]
) -> dict[int, NDArray[np.floating]]:
    """Represents the items in batches of 1, 2, 4, … up to what a pass has tokens for. [items, vectors, width] each"""
    runs = samples.items
    most = max(1, int(place.config.max_batch_tokens / np.mean([len(run) for run in runs])))
    by_size = {}
    role = role_of(place.bundle.manifest, "item")
    with closing(load_text_backend(place.bundle, role, place.config)) as backend:
        for size in sorted({*(2**power for power in range(most.bit_length())), most}):
            on_size(size)
            batches = [
                backend.compute(runs_of(runs[start : start + size])) for start in range(0, len(runs), size)
            ]
            by_size[size] = np.concatenate(batches)
    return by_size
