"""Features of users' embeddings, against distances worked out by hand."""

import numpy as np
import pytest

from rankport.sdk.membership.features import NAMES, References, user_features

ROWS = np.array([[0.0, 0.0], [0.0, 2.0], [4.0, 0.0], [4.0, 6.0]])
OWNERS = np.array([0, 0, 1, 1])


def test_distances_within_a_user_and_to_strangers() -> None:
    references = References(np.array([[3.0, 0.0], [3.0, 0.0], [0.0, 0.0]]), np.array([-1, -1, 0]))
    first, second = user_features(ROWS, OWNERS, 2, references, "euclidean")
    told = dict(zip(NAMES, first, strict=True))
    assert [told[name] for name in ("pair_mean", "pair_min", "pair_max", "pair_std")] == [2, 2, 2, 0]
    assert (told["centroid_mean"], told["spread"], told["effective_rank"]) == (1, 1, pytest.approx(1))
    # Its own sample at the origin is no stranger to the first user: all strangers lie at (3, 0).
    assert told["reference_50"] == pytest.approx((3 + 13**0.5) / 2)
    assert dict(zip(NAMES, second, strict=True))["pair_mean"] == 6


def test_cosine_distance_knows_no_lengths() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 5.0]])
    references = References(np.array([[-2.0, 0.0]]), np.array([-1]))
    told = dict(zip(NAMES, user_features(rows, np.array([0, 0]), 1, references, "cosine")[0], strict=True))
    assert told["pair_mean"] == pytest.approx(1)
    assert told["reference_50"] == pytest.approx((2 + 1) / 2)
