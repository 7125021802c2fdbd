"""Texts take their next tokens of the likeliest, where these are enough."""

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.errors import BackendError
from rankport.protos.generation import GeneratedPart
from rankport.runtime.backends.write_contract import Likeliest
from rankport.runtime.kinds.generator.texts.adjustments import AdjustmentRules
from rankport.runtime.kinds.generator.texts.sampler import Sampler, SamplingRules, logprobs
from rankport.runtime.kinds.generator.texts.text import Text, TextOrder, take_likeliest
from rankport.runtime.softmax import log_sums

LOGITS = np.array([[0.0, 3.0, 1.0, 2.0], [4.0, 3.0, 1.0, 2.0], [0.0, 0.5, np.nan, 2.0]], np.float32)


def text(temperature: float, told: list[GeneratedPart]) -> Text:
    order = TextOrder(
        sampler=Sampler(SamplingRules(temperature, 1.0, 0, 0.0, AdjustmentRules()), 0, [1]),
        writer=None,
        stop_ids=frozenset({0}),
        max_tokens=5,
        logprobs=True,
        on_part=told.append,
    )
    return Text(order=order, next_token=1)


@pytest.mark.parametrize("lost", [False, True])
def test_each_text_takes_what_its_own_row_says(lost: bool) -> None:
    """One goes on, one ends, one has no numbers, and one draws of all tokens, or fails where they do not come."""
    asked = list[list[int]]()

    def given(places: NDArray[np.int64]) -> NDArray[np.float32]:
        asked.append(places.tolist())
        if lost:
            raise BackendError("no page-locked memory")
        return rows[places]

    told = list[GeneratedPart]()
    rows = LOGITS[[0, 1, 2, 0]]
    best = np.argsort(-rows, axis=1, kind="stable")[:, :2]
    found = Likeliest(
        best,
        np.take_along_axis(rows, best, 1),
        np.full(4, 2.0, np.float32),
        log_sums(rows),
        given,
    )
    texts = [text(0.0, told) for _ in range(3)] + [text(1.0, told)]
    take_likeliest(texts, found)
    assert asked == [[3]]
    *others, drawn = texts
    assert (drawn.steps, drawn.failure is None) == ((0, False) if lost else (1, True))
    assert [one.ids for one in others] == [[1], [], []]
    assert [one.finish_reason for one in others] == [None, "stop", None]
    assert texts[0].next_token == 1
    np.testing.assert_allclose(texts[0].logprobs, logprobs(rows[0], np.array([1])), rtol=1e-6)
    assert [part.token_id for part in told] == [1, *drawn.ids]
    assert isinstance(texts[2].failure, BackendError)
    assert "a logit that is not finite, at token 0 of the text" in str(texts[2].failure)
    assert [one.failure for one in texts[:2]] == [None, None]
