"""Texts take their next tokens of the likeliest, where these are enough."""

import numpy as np

from rankport.protos.errors import BackendError
from rankport.protos.generation import GeneratedPart
from rankport.runtime.backends.write_contract import Likeliest
from rankport.runtime.kinds.generator.sampler import Sampler, SamplingRules, logprob
from rankport.runtime.kinds.generator.texts import Text, TextOrder, take_likeliest
from rankport.runtime.softmax import log_sums

LOGITS = np.array([[0.0, 3.0, 1.0, 2.0], [4.0, 3.0, 1.0, 2.0], [0.0, 0.5, np.nan, 2.0]], np.float32)


def text(temperature: float, told: list[GeneratedPart]) -> Text:
    order = TextOrder(
        sampler=Sampler(SamplingRules(temperature, 1.0, 0, 1.0), 0, [1]),
        writer=None,
        stop_ids=frozenset({0}),
        max_tokens=5,
        logprobs=True,
        on_part=told.append,
    )
    return Text(order=order, next_token=1)


def test_each_text_takes_what_its_own_row_says() -> None:
    """One goes on, one ends, one has no numbers, and one draws of all tokens, which is left to the caller."""
    told = list[GeneratedPart]()
    rows = LOGITS[[0, 1, 2, 0]]
    best = np.argsort(-rows, axis=1, kind="stable")[:, :2]
    found = Likeliest(
        best,
        np.take_along_axis(rows, best, 1),
        np.full(4, 2.0, np.float32),
        log_sums(rows),
        lambda places: rows[places],
    )
    texts = [text(0.0, told) for _ in range(3)] + [text(1.0, told)]
    assert take_likeliest(texts, found) == [3]
    assert [one.ids for one in texts] == [[1], [], [], []]
    assert [one.finish_reason for one in texts] == [None, "stop", None, None]
    assert texts[0].next_token == 1
    np.testing.assert_allclose(texts[0].logprobs, [logprob(rows[0], 1)], rtol=1e-6)
    assert [part.token_id for part in told] == [1]
    assert isinstance(texts[2].failure, BackendError)
    assert "a logit that is not finite, at token 0 of the text" in str(texts[2].failure)
    assert [one.failure for one in texts if one is not texts[2]] == [None, None, None]
