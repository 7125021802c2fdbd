"""Forms of scores: from 0 to 1, or as logits, exact also where a probability rounds to 1."""

from dataclasses import replace

import numpy as np
import pytest

from rankport.protos.scores import Transform, label_scores
from rankport.protos.types import ItemStatus, ScoreResult, Usage
from rankport.runtime.server.http.scoring import kind_as, ranked, scores_as

LOGITS = np.array([[3.0, -1.0, 0.5], [30.0, -30.0, 0.0], [-40.0, 20.0, 1.0]], np.float32)


def result(transform: Transform, positive: int, kind: str, logits: np.ndarray = LOGITS) -> ScoreResult:
    return ScoreResult(
        scores=label_scores(logits, positive, transform),
        logits=logits,
        status=(ItemStatus.OK,) * len(logits),
        messages=("",) * len(logits),
        usage=Usage(0, 0, 0, 0.0, 0.0, 0.0),
        fingerprint="f",
        score_kind=kind,
        read_out=f"{transform} of {positive}",
    )


@pytest.mark.parametrize("positive", [0, 1, 2])
def test_logits_of_a_softmax_are_its_exact_log_odds(positive: int) -> None:
    raw = scores_as(result("softmax", positive, "probability"), normalized=False)
    exact = LOGITS.astype(np.float64)
    others = np.delete(exact, positive, axis=1)
    np.testing.assert_allclose(raw, exact[:, positive] - np.log(np.exp(others).sum(axis=1)), rtol=1e-12)


def test_logits_of_a_sigmoid_are_those_of_its_label() -> None:
    assert scores_as(result("sigmoid", 1, "probability"), normalized=False).tolist() == [-1.0, -30.0, 20.0]


def test_probabilities_of_logits_are_their_sigmoid() -> None:
    odds = result("log-odds", 0, "logit")
    likely = label_scores(LOGITS, 0, "softmax")
    np.testing.assert_allclose(scores_as(odds, normalized=True), likely, rtol=1e-5)
    assert (kind_as(odds, True), kind_as(odds, False), kind_as(odds, None)) == (
        "probability",
        "logit",
        "logit",
    )


def test_cosines_stay_as_they_are() -> None:
    cosine = result("none", 0, "cosine")
    for normalized in (True, False, None):
        assert scores_as(cosine, normalized) is cosine.scores
        assert kind_as(cosine, normalized) == "cosine"


@pytest.mark.parametrize(("top_n", "order"), [(None, [1, 3, 0]), (0, [1, 3, 0]), (2, [1, 3])])
def test_the_best_come_first_equals_in_order_and_what_has_no_score_not_at_all(
    top_n: int | None, order: list[int]
) -> None:
    scores = np.array([1.0, 2.0, np.nan, 2.0], np.float32)
    given = replace(result("none", 0, "logit"), scores=scores, logits=scores[:, None])
    assert ranked(given, top_n) == order


@pytest.mark.parametrize("transform", ["softmax", "sigmoid"])
def test_probabilities_that_round_to_one_are_ranked_by_their_logits(transform: Transform) -> None:
    logits = np.array([[40.0, 0.0], [60.0, 0.0], [np.nan, np.nan], [50.0, 0.0]], np.float32)
    given = result(transform, 0, "probability", logits)
    assert np.nanmin(given.scores) == 1
    assert ranked(given, None) == [1, 3, 0]
