"""Samples that a proof of two towers scores: queries, lists of items and their wide features."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.kinds.texts.samples import Runs, sample_runs
from rankport.exporters.kinds.two_tower.proof.reference import Rows
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.prompt.encoder import PromptEncoder

_QUERIES = 6


@dataclass(frozen=True, slots=True)
class TowerSamples:
    """Queries, items that each is scored with, and features of each item for each query."""

    queries: Runs  # [queries] token ids, whole
    bodies: Runs  # [items] token ids that a request brings
    items: Runs  # [items] the same in their frame
    features: tuple[Rows | None, ...]  # [queries] of [items, features]
    holes: tuple[Rows | None, ...]  # the same with NaN where the bundle states what that counts as

    @classmethod
    def of(cls, manifest: Manifest, prompt: PromptEncoder, items: int = 24) -> "TowerSamples":
        """Draws samples that fit a bundle."""
        vocabulary, limits = manifest.shape.vocab_size, manifest.limits
        frame = len(prompt.encode_items([[0]]).runs.ids) - 1
        bodies = sample_runs(vocabulary, limits.max_item_tokens - frame, count=items)
        runs = prompt.encode_items([body.tolist() for body in bodies]).runs
        rng = np.random.default_rng(1)
        features = tuple(_features(manifest, len(bodies), rng) for _ in range(_QUERIES))
        return cls(
            queries=sample_runs(vocabulary, limits.max_prefix_tokens, count=_QUERIES, seed=1),
            bodies=bodies,
            items=[run.ids for run in runs],
            features=features,
            holes=tuple(_with_holes(rows, manifest, rng) for rows in features),
        )


def _features(manifest: Manifest, items: int, rng: np.random.Generator) -> Rows | None:
    """Draws features of the size that their scaling expects."""
    if not manifest.wide:
        return None
    shift = np.array([feature.shift for feature in manifest.wide], np.float32)
    divisor = np.array([feature.divisor for feature in manifest.wide], np.float32)
    drawn: NDArray[np.float32] = rng.standard_normal((items, len(manifest.wide))).astype(np.float32)
    return drawn * divisor + shift


def _with_holes(rows: Rows | None, manifest: Manifest, rng: np.random.Generator) -> Rows | None:
    allowed = np.array([feature.nan is not None for feature in manifest.wide])
    if rows is None or not allowed.any():
        return None
    holes = (rng.random(rows.shape) < 0.5) & allowed
    holes[0, allowed] = True
    return np.where(holes, np.float32(np.nan), rows)
