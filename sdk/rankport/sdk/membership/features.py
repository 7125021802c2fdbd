"""Features of a user's embeddings that an attack looks at: how compact they are, and how far from strangers.

Distances to reference samples are an idea of arXiv 2211.15918; the features themselves are ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rankport.sdk.membership.config import Distance
from rankport.sdk.membership.samples import Floats, Whole

SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95)
"""Shares of the references that are nearer than a distance."""

COMPACTNESS = (
    "pair_mean",
    "pair_min",
    "pair_max",
    "pair_std",
    "centroid_mean",
    "centroid_max",
    "spread",
    "effective_rank",
)
REFERENCE = tuple(f"reference_{round(100 * share):02d}" for share in SHARES)
RELATIVE = ("pair_to_reference", "pair_to_near_reference")
GROUPS: Mapping[str, tuple[str, ...]] = {
    "compactness": COMPACTNESS,
    "reference": REFERENCE,
    "relative": RELATIVE,
}
NAMES = COMPACTNESS + REFERENCE + RELATIVE

_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class References:
    """Samples of strangers."""

    rows: Floats  # [references, dim]
    owners: Whole  # [references] user whose sample it is, -1 for nobody who is audited


def user_features(
    rows: Floats, owners: Whole, users: int, references: References, distance: Distance
) -> Floats:
    """Computes the features of all users. [users, len(NAMES)] Each user has at least two rows.

    A user's own samples are no reference of theirs.
    """
    ours, theirs = _scaled(rows, distance), _scaled(references.rows, distance)
    groups = np.split(np.argsort(owners, kind="stable"), np.cumsum(np.bincount(owners, minlength=users))[:-1])
    found = np.empty((users, len(NAMES)))
    for user, places in enumerate(groups):
        own = ours[places]
        strangers = theirs[references.owners != user]
        found[user] = _of_user(own, strangers, distance)
    return found


def _of_user(own: Floats, strangers: Floats, distance: Distance) -> Floats:
    pairs = distances(own, own, distance)[np.triu_indices(len(own), 1)]
    centre = own.mean(axis=0, keepdims=True)
    to_centre = distances(own, _scaled(centre, distance), distance)[:, 0]
    compact = [pairs.mean(), pairs.min(), pairs.max(), pairs.std(), to_centre.mean(), to_centre.max()]
    reference = np.quantile(distances(own, strangers, distance), SHARES, axis=1).mean(axis=1)
    near, middle = reference[0], reference[SHARES.index(0.5)]
    relative = [pairs.mean() / max(middle, _TINY), pairs.mean() / max(near, _TINY)]
    return np.array([*compact, *_spread(own - centre), *reference, *relative])


def _spread(offsets: Floats) -> list[float]:
    """Gives the mean squared offset, and the effective rank as a share of the largest that so many rows can have.

    Effective rank: exp of the entropy of the singular values' shares (Roy and Vetterli, 2007).
    """
    squared = float((offsets**2).sum(axis=1).mean())
    values = np.linalg.svd(offsets, compute_uv=False)
    shares = values[values > _TINY] / max(float(values.sum()), _TINY)
    rank = float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0
    return [squared, rank / (len(offsets) - 1)]


def distances(ours: Floats, theirs: Floats, distance: Distance) -> Floats:
    """Computes distances of all pairs of rows; of cosine, the rows have length 1 or 0. [ours, theirs]"""
    products: Floats = ours @ theirs.T
    if distance == "cosine":
        return 1.0 - products
    squares = (ours**2).sum(axis=1)[:, None] + (theirs**2).sum(axis=1)[None] - 2 * products
    found: Floats = np.sqrt(np.maximum(squares, 0.0))
    return found


def _scaled(rows: Floats, distance: Distance) -> Floats:
    if distance == "euclidean":
        return rows
    lengths: Floats = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(lengths, _TINY)
