"""Changes that a request makes of logits: held to plain loops, and to transformers in all that it has too."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import InvalidRequest
from rankport.runtime.kinds.generator.texts.adjustments import AdjustmentRules, Adjustments

PROMPT = (3, 4, 4)
RULES = [
    {"presence_penalty": 0.7},
    {"frequency_penalty": -1.1},
    {"presence_penalty": -2.0, "frequency_penalty": 0.3},
    {"logit_bias": ((2, 100.0), (4, -0.5), (9, -100.0))},
    {"min_tokens": 3, "end_ids": (1, 4)},
    {"repetition_penalty": 1.3, "logit_bias": ((4, 2.5), (5, -2.5))},
    {
        "repetition_penalty": 0.8,
        "presence_penalty": 1.5,
        "frequency_penalty": 0.4,
        "logit_bias": ((0, 1.0), (4, 3.0)),
        "min_tokens": 2,
        "end_ids": (0,),
    },
]


def by_loops(logits: np.ndarray, rules: AdjustmentRules, text: Sequence[int]) -> np.ndarray:
    """Changes each logit by itself, as vLLM's and OpenAI's pages say."""
    changed = logits.copy()
    for token in range(len(changed)):
        if token in rules.end_ids and len(text) < rules.min_tokens:
            changed[token] = -np.inf
        changed[token] += np.float32(dict(rules.logit_bias).get(token, 0.0))
        if token in (*PROMPT, *text):
            factor = np.float32(rules.repetition_penalty)
            changed[token] = changed[token] * factor if changed[token] < 0 else changed[token] / factor
        changed[token] -= np.float32(rules.frequency_penalty) * text.count(token)
        changed[token] -= np.float32(rules.presence_penalty) * (token in text)
    return changed


@settings(max_examples=40)
@given(st.integers(0, 99), st.sampled_from(RULES))
def test_logits_change_as_by_loops(seed: int, said: dict[str, object]) -> None:
    rng, rules, text = np.random.default_rng(seed), AdjustmentRules(**said), list[int]()  # type: ignore[arg-type]
    adjustments = Adjustments(rules, PROMPT)
    for _ in range(6):
        logits = rng.normal(0, 3, 12).astype(np.float32)
        before, expected = logits.copy(), by_loops(logits, rules, text)
        np.testing.assert_allclose(adjustments.apply(logits), expected, rtol=1e-6)
        np.testing.assert_array_equal(logits, before)
        some = np.sort(rng.permutation(12)[:5])
        np.testing.assert_allclose(adjustments.apply(logits[some], some), expected[some], rtol=1e-6)
        text.append(int(rng.integers(12)))
        adjustments.take(text[-1])


@pytest.mark.parametrize("penalty", [1.3, 0.8])
def test_biases_penalties_and_least_lengths_are_those_of_transformers(penalty: float) -> None:
    import torch
    from transformers import LogitsProcessorList
    from transformers.generation import logits_process

    own = logits_process.SequenceBiasLogitsProcessor({(4,): 2.5, (7,): -3.0})
    processors = LogitsProcessorList(
        [
            own,
            logits_process.RepetitionPenaltyLogitsProcessor(penalty),
            logits_process.MinNewTokensLengthLogitsProcessor(len(PROMPT), 3, [1, 5], device="cpu"),
        ]
    )
    rules = AdjustmentRules(
        repetition_penalty=penalty, logit_bias=((4, 2.5), (7, -3.0)), min_tokens=3, end_ids=(1, 5)
    )
    adjustments, ids, rng = Adjustments(rules, PROMPT), list(PROMPT), np.random.default_rng(0)
    for _ in range(5):
        logits = rng.normal(0, 3, 12).astype(np.float32)
        expected = processors(torch.tensor([ids]), torch.from_numpy(logits)[None])[0]
        np.testing.assert_allclose(adjustments.apply(logits), expected, rtol=1e-6)
        ids.append(int(rng.integers(12)))
        adjustments.take(ids[-1])


def test_a_text_of_which_nothing_but_its_end_may_come_is_refused() -> None:
    only_the_end = np.array([-np.inf, 2.0, -np.inf], np.float32)  # by a grammar, say
    adjustments = Adjustments(AdjustmentRules(min_tokens=2, end_ids=(1,)), [])
    with pytest.raises(InvalidRequest, match="min_tokens is 2, and nothing but an end may be token 0"):
        adjustments.apply(only_the_end)
