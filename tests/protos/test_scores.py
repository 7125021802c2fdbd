"""Formulas of scores."""

import numpy as np
import pytest

from rankport.protos.scores import Transform, label_scores, rank_values

LOGITS = np.array([[1.0, -2.0, 0.5], [3.0, 3.0, -1.0], [-4.0, 0.0, 2.0]], np.float32)


def test_probabilities_survive_large_logits_and_missing_items() -> None:
    logits = np.array([[1e4, -1e4], [-1e4, 1e4], [500, 500], [np.nan, np.nan]], np.float32)
    np.testing.assert_allclose(label_scores(logits, 0, "softmax"), [1, 0, 0.5, np.nan])
    np.testing.assert_allclose(label_scores(logits, 1, "softmax"), [0, 1, 0.5, np.nan])
    np.testing.assert_allclose(label_scores(logits, 0, "sigmoid"), [1, 0, 1, np.nan])
    np.testing.assert_allclose(label_scores(logits, 0, "log-odds"), [2e4, -2e4, 0, np.nan])
    np.testing.assert_array_equal(label_scores(logits, 1, "none"), logits[:, 1])


@pytest.mark.parametrize("positive", [0, 1, 2])
def test_log_odds_are_those_of_the_softmax(positive: int) -> None:
    shares = label_scores(LOGITS, positive, "softmax").astype(np.float64)
    odds = label_scores(LOGITS, positive, "log-odds")
    np.testing.assert_allclose(odds, np.log(shares / (1 - shares)), rtol=1e-4)


@pytest.mark.parametrize("transform", ["softmax", "sigmoid", "log-odds", "none"])
def test_scores_are_single_and_rank_as_their_values_do(transform: Transform) -> None:
    scores, values = label_scores(LOGITS, 2, transform), rank_values(LOGITS, 2, transform)
    assert (scores.dtype, values.dtype) == (np.float32, np.float64)
    assert np.argsort(scores).tolist() == np.argsort(values).tolist()


def test_items_that_round_to_one_probability_keep_their_order() -> None:
    logits = np.array([[40.0, 0.0], [41.0, 0.0]], np.float32)
    assert label_scores(logits, 0, "softmax").tolist() == [1.0, 1.0]
    assert rank_values(logits, 0, "softmax")[1] > rank_values(logits, 0, "softmax")[0]


def test_one_label_is_no_certainty() -> None:
    logits = np.array([[-4.0], [0.0], [2.0]], np.float32)
    np.testing.assert_allclose(label_scores(logits, 0, "sigmoid"), [0.0179862, 0.5, 0.8807971], rtol=1e-5)
