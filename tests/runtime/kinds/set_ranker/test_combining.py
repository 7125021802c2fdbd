"""Scores of heads and the order they give: ties, rows that are not finite, and a second pass."""

import numpy as np
import pytest

from rankport.runtime.kinds.set_ranker.combining import Heads, best_first

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize("probabilities", [True, False])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_row_with_a_logit_that_is_not_finite_has_no_score(probabilities: bool, bad: float) -> None:
    heads = Heads(("click", "like"), probabilities, {"click": 1.0})
    logits = np.array([[0.5, 0.25], [0.0, bad], [bad, 0.0]], np.float32)
    with np.errstate(all="raise"):
        scores, sums = heads.scores(logits), heads.combined(logits, heads.weights(None))
    assert np.isfinite(scores[0]).all()
    assert np.isnan(scores[1:]).all()
    assert sums[0] == scores[0, 0]
    assert np.isnan(sums[1:]).all()


@pytest.mark.parametrize("count", [2, 3, 7])
def test_equal_rows_have_equal_sums_wherever_they_stand(count: int) -> None:
    rng = np.random.default_rng(count)
    heads = Heads(tuple(map(str, range(count))), False, {})
    for _ in range(100):
        logits = rng.normal(0, 3, (23, count)).astype(np.float32)
        logits[::3] = logits[0]
        assert len(set(heads.combined(logits, rng.normal(size=count).astype(np.float32))[::3].tolist())) == 1


@pytest.mark.parametrize(
    ("scores", "again", "order"),
    [
        ([1, 2, 1, 2], None, [1, 3, 0, 2]),
        ([1, NAN, 2, NAN], None, [2, 0, 1, 3]),
        ([1, 2, 1, 2], [2, 0], [0, 2, 1, 3]),
        ([1, NAN, 3, 3, 0], [1, 0], [0, 2, 3, 4, 1]),
        ([0, 0, 0], [0, 1, 2], [0, 1, 2]),
    ],
)
def test_the_order_is_of_scores_then_of_places(
    scores: list[float], again: list[int] | None, order: list[int]
) -> None:
    second = None if again is None else np.array(again)
    assert best_first(np.array(scores, np.float32), second).tolist() == order
