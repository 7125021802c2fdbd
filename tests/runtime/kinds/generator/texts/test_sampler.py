"""The next token: penalty, temperature, top-k, top-p, min-p, and one draw that a seed decides."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import InvalidRequest
from rankport.protos.generation import Sampling
from rankport.runtime.bundle.manifest import Generation
from rankport.runtime.kinds.generator.texts.sampler import Sampler, SamplingRules, likeliest_tokens, logprobs

CHANCES = np.array([0.5, 0.2, 0.2, 0.07, 0.03])
LOGITS = np.log(CHANCES).astype(np.float32)


def sampler(seed: int = 0, prompt: tuple[int, ...] = (), **sampling: object) -> Sampler:
    said = Sampling(**{"temperature": 1.0} | sampling)  # type: ignore[arg-type]
    rules = SamplingRules.of(said, Generation(stop_ids=[]), (5, 6), said.min_tokens or 0)
    return Sampler(rules, seed, prompt)


def drawn(count: int = 4000, **sampling: float) -> np.ndarray:
    one = sampler(**sampling)
    return np.bincount([one.draw(LOGITS) for _ in range(count)], minlength=5) / count


def test_draws_have_the_chances_of_the_logits() -> None:
    np.testing.assert_allclose(drawn(), CHANCES, atol=0.03)


def test_temperature_sharpens_and_zero_takes_the_likeliest() -> None:
    sharp = CHANCES**2 / (CHANCES**2).sum()
    np.testing.assert_allclose(drawn(temperature=0.5), sharp, atol=0.03)
    np.testing.assert_array_equal(drawn(10, temperature=0.0), [1, 0, 0, 0, 0])


@pytest.mark.parametrize("temperature", [1e-3, 1e-300, 5e-324])
def test_a_temperature_next_to_zero_draws_the_likeliest(temperature: float) -> None:
    np.testing.assert_array_equal(drawn(10, temperature=temperature), [1, 0, 0, 0, 0])
    np.testing.assert_array_equal(drawn(10, temperature=temperature, top_k=3, top_p=0.9), [1, 0, 0, 0, 0])


def test_top_k_keeps_those_that_tie_with_the_last() -> None:
    np.testing.assert_allclose(drawn(top_k=2), np.array([0.5, 0.2, 0.2, 0, 0]) / 0.9, atol=0.03)
    np.testing.assert_array_equal(drawn(10, top_k=1), [1, 0, 0, 0, 0])


def test_tokens_of_numpy_end_a_text_as_others_do() -> None:
    assert Sampling(stop_ids=tuple(np.array([3, 1]))) == Sampling(stop_ids=(3, 1))


@settings(max_examples=60)
@given(
    st.integers(0, 99),
    st.sampled_from([2, 40, 300, 999, 5003]),
    st.integers(1, 60),
    st.sampled_from(["apart", "tied", "masked"]),
)
def test_top_k_draws_what_a_sort_of_all_would(seed: int, vocabulary: int, top_k: int, form: str) -> None:
    rng, own = np.random.default_rng(seed), np.random.Generator(np.random.PCG64(seed))
    one = sampler(seed=seed, temperature=0.8, top_k=top_k)
    for _ in range(5):
        logits = rng.normal(0, 3, vocabulary).astype(np.float32)
        if form == "tied":
            logits = np.round(logits)
        if form == "masked":
            logits[rng.permutation(vocabulary)[: vocabulary // 2]] = -np.inf
        chances = np.exp((logits.astype(np.float64) - logits.max()) / 0.8)
        chances[logits < np.sort(logits)[-min(top_k, vocabulary)]] = 0.0
        sums = np.cumsum(chances)
        assert one.draw(logits) == np.searchsorted(sums, own.random() * sums[-1], side="right")


def test_top_p_keeps_the_likeliest_that_have_it_together() -> None:
    np.testing.assert_allclose(drawn(top_p=0.92), np.array([0.5, 0.2, 0.2, 0.07, 0]) / 0.97, atol=0.03)
    np.testing.assert_array_equal(drawn(10, top_p=0.4), [1, 0, 0, 0, 0])


def test_min_p_keeps_those_that_have_a_share_of_the_likeliest() -> None:
    np.testing.assert_allclose(drawn(min_p=0.39), np.array([0.5, 0.2, 0.2, 0, 0]) / 0.9, atol=0.03)
    np.testing.assert_array_equal(drawn(10, min_p=1.0), [1, 0, 0, 0, 0])
    # of chances as the temperature has them, as transformers and vLLM do: 0.04 / 0.25 of the likeliest
    np.testing.assert_array_equal(drawn(10, temperature=0.5, min_p=0.2), [1, 0, 0, 0, 0])


def test_a_nucleus_of_many_tokens_is_found_whatever_its_size() -> None:
    logits = np.zeros(1000, np.float32)
    logits[7] = 1.0
    one = sampler(top_p=0.999)
    assert len({one.draw(logits) for _ in range(3000)}) > 900


def test_a_penalty_divides_positive_logits_of_seen_tokens_and_multiplies_negative_ones() -> None:
    logits = np.array([3.0, 2.9, -1.0, -1.1], np.float32)
    seen = sampler(prompt=(0,), temperature=0.0, repetition_penalty=1.5)
    assert [seen.draw(logits) for _ in range(3)] == [1, 0, 0]  # 3/1.5 = 2 beside 2.9, then 2.9/1.5 = 1.93
    negative = sampler(prompt=(0,), temperature=0.0, repetition_penalty=1.5)
    assert negative.draw(logits[2:]) == 1  # -1 * 1.5 is below -1.1


def test_the_same_seed_draws_the_same() -> None:
    first, again, other = sampler(seed=5), sampler(seed=5), sampler(seed=6)
    tokens = [first.draw(LOGITS) for _ in range(50)]
    assert tokens == [again.draw(LOGITS) for _ in range(50)]
    assert tokens != [other.draw(LOGITS) for _ in range(50)]


def test_log_probabilities_are_those_of_the_softmax() -> None:
    np.testing.assert_allclose(logprobs(LOGITS + 3, np.array([3, 0])), np.log([0.07, 0.5]), atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"temperature": -1}, "temperature is -1: give a number from 0 to 100"),
        ({"top_p": 0}, "top_p is 0: give a number above 0 to 1"),
        ({"top_k": 2.5}, "top_k is 2.5: give a whole number from 0 on"),
        ({"max_tokens": 0}, "max_tokens is 0: give a whole number from 1 on"),
        ({"seed": True}, "seed is True: give a whole number from 0 on"),
        ({"seed": 2**63}, "seed is 9223372036854775808: give a whole number from 0 to 9223372036854775807"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty is nan: give a number above 0 to 100"),
        ({"stop": "end"}, "stop is 'end': give a list of texts"),
        ({"stop_ids": (True,)}, r"stop_ids is \(True,\): give a list of token ids"),
        ({"stop_ids": np.array([1])}, r"stop_ids is array\(\[1\]\): give a list of token ids"),
        ({"stop": ("",)}, "stop has an empty text"),
        ({"presence_penalty": 2.1}, "presence_penalty is 2.1: give a number from -2 to 2"),
        ({"frequency_penalty": -3}, "frequency_penalty is -3: give a number from -2 to 2"),
        ({"logit_bias": {7: 101}}, "logit_bias of token 7 is 101: give a number from -100 to 100"),
        ({"logit_bias": {-1: 1}}, "a token of logit_bias is -1: give a whole number from 0 on"),
        ({"logit_bias": {"7": 1}}, "a token of logit_bias is '7': give a whole number"),
        ({"logit_bias": {7: None}}, "logit_bias of token 7 is None: give a number"),
        ({"logit_bias": "a"}, "logit_bias is 'a': give numbers by token id"),
        ({"logit_bias": dict.fromkeys(range(1025), 1)}, "logit_bias has 1025 tokens: give at most 1024"),
        ({"min_tokens": -1}, "min_tokens is -1: give a whole number from 0 on"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs is 21: give a whole number from 0 to 20"),
        ({"top_logprobs": 2}, "top_logprobs is 2, and logprobs is not set: set it"),
        ({"ignore_eos": None}, "ignore_eos is None: give true or false"),
        ({"logit_bias": ((7, 1), (7, 2))}, "logit_bias has a token twice: give each once"),
        ({"logprobs": 3}, "logprobs is 3: give true or false, and to top_logprobs how many others are told"),
        ({"ignore_eos": True, "regex": "a"}, "ignore_eos goes on behind what regex says"),
        ({"stop_ids": (1,) * 17}, "stop_ids has 17 entries: give at most 16"),
    ],
)
def test_values_out_of_range_are_told(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        Sampling(**wrong)  # type: ignore[arg-type]


@settings(max_examples=60)
@given(
    st.integers(0, 99),
    st.sampled_from(
        [
            {"temperature": 0.0},
            {"temperature": 0.0, "repetition_penalty": 1.4},
            {"temperature": 0.7, "top_k": 5},
            {"temperature": 1.3, "top_k": 9, "top_p": 0.8},
            {"temperature": 1.0, "top_k": 4, "repetition_penalty": 2.0},
            {"temperature": 1.0, "top_k": 12},
            {"temperature": 1.0, "top_p": 0.5},
            {"temperature": 1.0, "min_p": 0.2},
            {"temperature": 0.6, "min_p": 0.01, "repetition_penalty": 1.2},
            {"temperature": 1.0, "top_k": 9, "top_p": 0.9, "min_p": 0.1},
            {"temperature": 1.0, "top_p": 0.9, "min_p": 0.1},
            {"temperature": 0.0, "repetition_penalty": 0.5},
            {"temperature": 0.0, "presence_penalty": 1.5, "frequency_penalty": 0.5},
            {"temperature": 0.0, "presence_penalty": 2.0, "frequency_penalty": -0.5},
            {"temperature": 0.9, "top_k": 5, "presence_penalty": -2.0},
            {"temperature": 0.9, "min_p": 0.1, "frequency_penalty": 1.0},
            {"temperature": 0.0, "logit_bias": {7: 4.0}},
            {"temperature": 0.8, "top_k": 6, "logit_bias": {7: 6.0, 8: -6.0, 9: -100.0}},
            {"temperature": 0.0, "logit_bias": {7: -100.0}, "repetition_penalty": 1.2},
            {"temperature": 0.0, "min_tokens": 12},
            {"temperature": 1.2, "top_k": 11, "min_tokens": 12},
        ]
    ),
    st.booleans(),
)
def test_of_the_likeliest_the_same_is_drawn_as_of_all_or_nothing(
    seed: int, rules: dict[str, object], equal: bool
) -> None:
    rng, likeliest = np.random.default_rng(seed), 12
    beside, whole = (sampler(seed=seed, prompt=(3, 4), **rules) for _ in range(2))
    for _ in range(20):
        logits = rng.normal(0, 3, 40).astype(np.float32)
        if equal:
            logits = np.round(logits)
        tokens = np.argsort(-logits, kind="stable")[:likeliest]  # of equal ones the lower token
        expected = whole.draw(logits)
        token = (
            None
            if beside.needs_all
            else beside.draw_likeliest(tokens, logits[tokens], float(logits[tokens].min()))
        )
        assert (beside.draw(logits) if token is None else token) == expected


def test_few_likeliest_are_enough_as_a_rule() -> None:
    rng = np.random.default_rng(0)
    for rules in ({"temperature": 0.0}, {"temperature": 1.0, "top_k": 5}, {"temperature": 1.0, "min_p": 0.5}):
        one = sampler(**rules)
        for _ in range(20):
            logits = rng.normal(0, 3, 1000).astype(np.float32)
            tokens = np.argsort(-logits)[:12]
            assert one.draw_likeliest(tokens, logits[tokens], float(logits[tokens].min())) is not None
    assert sampler(temperature=1.0).needs_all
    assert not sampler(temperature=0.0).needs_all
    assert not sampler(temperature=0.0, presence_penalty=1.0, logit_bias={3: 5.0}, min_tokens=3).needs_all
    assert sampler(temperature=0.0, presence_penalty=-1.0).needs_all
    assert sampler(temperature=0.0, frequency_penalty=-1.0).needs_all


def test_where_another_token_may_be_as_likely_nothing_is_drawn() -> None:
    tokens, equal = np.arange(12), np.zeros(12, np.float32)
    assert sampler(temperature=1.0, top_k=5).draw_likeliest(tokens, equal, 0.0) is None
    # 3 / 2 is what token 1, which is not among them, may have too, and it comes before token 9.
    seen = sampler(prompt=(0, 9), temperature=0.0, repetition_penalty=2.0)
    assert seen.draw_likeliest(np.array([9, 0]), np.array([3.0, 1.5], np.float32), 1.5) is None
    # Token 30, which is not among them, may be the likeliest by its bias; of those that are, the bias is known.
    raised = sampler(temperature=0.0, logit_bias={30: 0.1})
    assert raised.draw_likeliest(tokens, np.arange(12, dtype=np.float32), 0.0) is None
    assert sampler(temperature=0.0, logit_bias={3: 50.0}).draw_likeliest(tokens, equal, 0.0) == 3
    # Ends that may not come leave none of them.
    waiting = sampler(temperature=0.0, min_tokens=1)
    assert waiting.draw_likeliest(np.array([6, 5]), np.array([3.0, 2.0], np.float32), 1.5) is None


@pytest.mark.parametrize("count", [1, 3, 20])
def test_the_likeliest_tokens_come_in_order(count: int) -> None:
    logits = np.round(np.random.default_rng(0).normal(0, 3, 400)).astype(np.float32)
    np.testing.assert_array_equal(likeliest_tokens(logits, count), np.argsort(-logits, kind="stable")[:count])
    np.testing.assert_array_equal(likeliest_tokens(LOGITS, count), [0, 1, 2, 3, 4][:count])
