"""Answers of the kinds that score: what has failed has no score, and is the last of a ranking."""

import numpy as np
import pytest

from rankport.protos.ranking import Ranking
from rankport.protos.scores import Transform
from rankport.protos.types import ItemStatus, Usage
from rankport.runtime.bundle.manifest import Labels, Score
from rankport.runtime.kinds.score_answer import ScoredItems, ScoreForm
from rankport.runtime.prompt.encoded import EncodedItems
from rankport.runtime.tokens import TokenRun, TokenRuns

INFINITE = [
    [np.inf, 0],
    [0, np.inf],
    [-np.inf, 0],
    [0, -np.inf],
    [np.nan, 0],
]


@pytest.mark.parametrize("transform", ["softmax", "sigmoid", "log-odds", "none"])
def test_an_item_with_a_logit_that_is_not_finite_has_no_score_whatever_the_others(
    transform: Transform,
) -> None:
    logits = np.array([*INFINITE, [0.5, 1.0]], np.float32)
    count = len(logits) + 1  # the first is empty
    form = ScoreForm(
        Labels(source="lm_head", names=["no", "yes"], ids=[3, 4], positive=1),
        Score(kind="logit" if transform in ("none", "log-odds") else "probability", transform=transform),
        "fingerprint",
        "",
    )
    runs = TokenRuns.of([TokenRun(np.ones(1, np.int64))] * len(logits))
    items = EncodedItems(runs, np.arange(1, count), np.empty(0, np.int64), np.zeros(1, np.int64))
    failed = ~np.isfinite(logits).all(axis=1)
    result = form.answer(ScoredItems(count, items), logits, failed, Usage(0, 0, 0, 0.0, 0.0, 0.0))
    assert np.isnan(result.scores).tolist() == [True] * 6 + [False]
    assert np.isnan(result.logits).all(axis=1).tolist() == [True] * 6 + [False]
    assert result.status == (*[ItemStatus.FAILED] * 6, ItemStatus.OK)
    assert Ranking.of(result).indices.tolist()[0] == 6
