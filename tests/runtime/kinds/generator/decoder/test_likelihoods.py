"""Items are scored as texts behind a prompt: with the log-probabilities that the model writes them with."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import BackendError, InvalidRequest, LimitExceeded
from rankport.protos.generation import Sampling
from rankport.protos.types import ItemStatus, Key
from rankport.runtime.backends.ort.decoding import OnnxRuntimeDecodeBackend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.kinds.generator.tries.trie import TokenTrie

VOCABULARY = 101
PROMPT = [1, 40, 41]


@pytest.fixture(scope="module")
def generator(generator_bundle: Bundle) -> Iterator[Generator]:
    with Generator.load(generator_bundle, config=EngineConfig(threads=1)) as loaded:
        yield loaded


def test_a_written_text_scores_the_sum_of_what_it_was_written_with(generator: Generator) -> None:
    prompts = [PROMPT, [7], [5, 6, 7, 8, 9, 10]]
    for prompt in prompts:
        written = generator.generate(prompt, Sampling(max_tokens=12, logprobs=True))
        assert written.logprobs is not None
        result = generator.score(prompt, [list(written.token_ids)])
        assert result.scores[0] == pytest.approx(written.logprobs.sum(), abs=1e-4)
        assert result.score_kind == "log_likelihood"
        assert result.usage.item_tokens == len(written.token_ids)


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(3, VOCABULARY - 1), min_size=1, max_size=9), min_size=1, max_size=7))
def test_items_of_any_lengths_score_as_each_alone(generator: Generator, items: list[list[int]]) -> None:
    together = generator.score(PROMPT, items).scores
    alone = [_by_steps(generator, item) for item in items]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def _by_steps(generator: Generator, item: list[int]) -> float:
    """Sums what a search of one sequence of one token tells behind each beginning."""
    score = 0.0
    for place, token in enumerate(item):
        trie = TokenTrie.of(["one"], np.array([[token]]), VOCABULARY)
        score += float(generator.search([*PROMPT, *item[:place]], trie).scores[0])
    return score


def test_small_passes_give_the_same(generator_bundle: Bundle, generator: Generator) -> None:
    rng = np.random.default_rng(0)
    items = [rng.integers(3, VOCABULARY, count).tolist() for count in rng.integers(1, 30, 40)]
    expected = generator.score(PROMPT, items).scores
    with Generator.load(generator_bundle, config=EngineConfig(threads=1, max_batch_tokens=16)) as other:
        np.testing.assert_allclose(other.score(PROMPT, items).scores, expected, atol=1e-4)
        assert other.score(PROMPT, items).usage.prefix_tokens_cached == len(PROMPT) - 1


@pytest.mark.parametrize("searched", [False, True])
def test_kv_that_no_request_uses_gives_way_to_a_pass_that_finds_no_memory(
    searched: bool, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    trie, whole = (
        TokenTrie.of(["one"], np.array([[9]]), VOCABULARY),
        OnnxRuntimeDecodeBackend.log_probabilities,
    )
    refusals = iter([True])

    def tell(*given: Any) -> Any:
        if next(refusals, False):
            error = BackendError("no memory left")
            error.wants_memory = True
            raise error
        return whole(*given)

    def asked(prompt: list[int]) -> Any:
        return (generator.search(prompt, trie) if searched else generator.score(prompt, [[9]])).scores

    asked(PROMPT)
    expected = asked([7, 8])
    monkeypatch.setattr(OnnxRuntimeDecodeBackend, "log_probabilities", tell)
    assert asked([7, 8]) == pytest.approx(expected, abs=1e-5)
    assert next(refusals, None) is None


def test_texts_searches_and_scores_run_beside_each_other(generator: Generator) -> None:
    items = [[50, 51], [52], [53, 54, 55]]
    expected = [generator.score([5, place], items).scores for place in range(4)]
    text = generator.generate([6, 7], Sampling(max_tokens=30)).token_ids
    scored = [generator.submit([5, place], items) for place in range(4)]
    texts = [generator.submit_generate([6, 7], Sampling(max_tokens=30)) for _ in range(3)]
    scored += [generator.submit([5, place], items) for place in range(4)]
    for place, future in enumerate(scored):
        np.testing.assert_allclose(future.result().scores, expected[place % 4], atol=1e-4)
    assert {future.result().token_ids for future in texts} == {text}


def test_texts_are_ranked_by_how_likely_they_are(generator: Generator) -> None:
    ranking = generator.rank("a b", ["c", "d e", "", "c c c c"], return_items=True)
    assert ranking.items is not None
    assert ranking.items[-1] == ""
    assert ranking.status[-1] is ItemStatus.FAILED
    assert np.isnan(ranking.scores[-1])
    assert (np.diff(ranking.scores[:-1]) <= 0).all()
    assert generator.score("a b", []).scores.shape == (0,)


def test_what_cannot_be_scored_is_told(generator: Generator) -> None:
    with pytest.raises(LimitExceeded, match="item 1"):
        generator.score(PROMPT, [[5], [5] * 65])
    with pytest.raises(InvalidRequest, match="item 0 is a Key"):
        generator.score(PROMPT, [Key("a")])
    with pytest.raises(InvalidRequest, match="prefix has no tokens"):
        generator.score([], [[5]])
    cut = generator.score(PROMPT, [[5], [5] * 65], truncation="truncate")
    assert cut.status == (ItemStatus.OK, ItemStatus.TRUNCATED)
