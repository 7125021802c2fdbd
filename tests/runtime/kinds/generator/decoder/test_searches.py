"""Searches give the likeliest sequences that there are: as exhaustive scoring says, none twice, none invented."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankport.protos.errors import InvalidRequest, LimitExceeded, StoreError
from rankport.protos.generation import Sampling, SearchResult
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.decoder.beams import Beams
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.kinds.generator.tries.trie import TokenTrie

VOCABULARY, LEVELS = 101, 3
PROMPT = [1, 40, 41]


def catalogue(count: int = 60, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Draws sequences of few tokens a level, so that many share a beginning, and some are of two items."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(50, 56, (count, LEVELS))
    rows[1] = rows[0]
    return [f"item {place}" for place in range(count)], rows


@pytest.fixture(scope="module")
def generator(generator_bundle: Bundle) -> Iterator[Generator]:
    with Generator.load(generator_bundle, config=EngineConfig(threads=1)) as loaded:
        yield loaded


def exhaustive(generator: Generator, rows: np.ndarray) -> np.ndarray:
    """Scores every sequence by the log-probabilities that the generator tells when it is made to write it."""
    scores = []
    for row in rows.tolist():
        score = 0.0
        for place in range(LEVELS):
            # The token is forced by leaving nothing else: its own log-probability is told of the plain logits.
            trie = TokenTrie.of(["one"], np.array([[row[place]]]), VOCABULARY)
            score += float(generator.search([*PROMPT, *row[:place]], trie).scores[0])
        scores.append(score)
    return np.array(scores)


def test_with_room_for_all_it_is_exhaustive(generator: Generator) -> None:
    keys, rows = catalogue(24)
    trie = TokenTrie.of(keys, rows, VOCABULARY)
    found = generator.search(PROMPT, trie, beams=64, top_k=24)
    expected = exhaustive(generator, rows)
    assert sorted(found.keys) == sorted(keys)
    by_key = dict(zip(keys, expected, strict=True))
    np.testing.assert_allclose(found.scores, [by_key[key] for key in found.keys], atol=1e-4)
    assert (np.diff(found.scores) <= 1e-6).all()
    tokens = dict(zip(keys, rows.tolist(), strict=True))
    assert [tokens[key] for key in found.keys] == found.token_ids.tolist()


def test_few_beams_give_sequences_that_there_are_once_each(generator: Generator) -> None:
    keys, rows = catalogue()
    trie = TokenTrie.of(keys, rows, VOCABULARY)
    found = generator.search(PROMPT, trie, beams=5, top_k=50)
    assert len({*map(tuple, found.token_ids.tolist())}) == 5
    assert {*map(tuple, found.token_ids.tolist())} <= {*map(tuple, rows.tolist())}
    assert len({*found.keys}) == len(found.keys) >= 5
    best = generator.search(PROMPT, trie, beams=200, top_k=1)
    assert found.keys[0] == best.keys[0] or found.scores[0] <= best.scores[0]


def test_searches_and_texts_run_beside_each_other(generator: Generator) -> None:
    keys, rows = catalogue()
    trie = TokenTrie.of(keys, rows, VOCABULARY)
    alone = [generator.search([5, place], trie, beams=8) for place in range(4)]
    text = generator.generate([6, 7], Sampling(max_tokens=20)).token_ids
    searches = [generator.submit_search([5, place], trie, beams=8) for place in range(4)]
    texts = [generator.submit_generate([6, 7], Sampling(max_tokens=20)) for _ in range(3)]
    for before, future in zip(alone, searches, strict=True):
        assert _content(future.result()) == _content(before)
    assert all(future.result().token_ids == text for future in texts)


def test_a_trie_is_saved_and_mapped(tmp_path: Path) -> None:
    keys, rows = catalogue()
    trie = TokenTrie.of([*keys[:-1], "日本"], rows, VOCABULARY)
    trie.save(tmp_path / "trie")
    opened = TokenTrie.open(tmp_path / "trie")
    assert all(isinstance(array, np.memmap) for array in (*opened.tokens, *opened.children, opened.items))
    assert (opened.count, opened.levels, opened.nodes) == (trie.count, trie.levels, trie.nodes)
    leaves = range(trie.nodes[-1])
    assert [opened.keys_of(leaf) for leaf in leaves] == [trie.keys_of(leaf) for leaf in leaves]
    with pytest.raises(StoreError, match="exists already: remove it"):
        trie.save(tmp_path / "trie")


@pytest.mark.parametrize("fault", ["no header", "another format", "an array of another trie", "a cut array"])
def test_what_is_no_trie_is_told(tmp_path: Path, fault: str) -> None:
    keys, rows = catalogue()
    TokenTrie.of(keys, rows, VOCABULARY).save(tmp_path / "trie")
    header, items = tmp_path / "trie" / "trie.json", tmp_path / "trie" / "items.npy"
    if fault == "no header":
        header.unlink()
    elif fault == "another format":
        header.write_text(header.read_text().replace("rankport-trie", "other"))
    elif fault == "a cut array":
        items.write_bytes(items.read_bytes()[:-8])
    else:
        np.save(items, np.arange(3))
    with pytest.raises(StoreError, match=r"build (it|the trie) again"):
        TokenTrie.open(tmp_path / "trie")


@pytest.mark.parametrize(
    ("keys", "rows", "told"),
    [
        (["a", "b"], [[1, 2], [1, 101]], r"item 1, 'b': of \[1, 101\] not all are tokens, 0 to 100"),
        (["a", "b"], [[1, -2], [1, 1]], r"item 0, 'a': of \[1, -2\]"),
        (["a", "b", "a"], [[1], [2], [3]], "item 2: key 'a' is given twice"),
        (["a"], [[1], [2]], "give a row of tokens a key"),
        ([], np.empty((0, 2), np.int64), "at least one"),
        (["a", "b"], [[1.5, 2.0], [3.0, 4.0]], "sequences are of float64: tokens are whole numbers"),
        (["a"], [[True, False]], "sequences are of bool: tokens are whole numbers"),
        (["a", 7], [[1], [2]], "item 1, key is .*int.*; give text"),
        (["é", ""], [[1], [2]], "item 1: its key is an empty text"),
        (["a", "b\ud800"], [[1], [2]], "item 1, key: .* is half of a character"),
    ],
)
def test_items_at_fault_are_named(keys: list[str], rows: object, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        TokenTrie.of(keys, np.array(rows), VOCABULARY)


def test_counts_below_one_and_sequences_too_long_are_told(generator: Generator) -> None:
    trie = TokenTrie.of(["a"], np.array([[3] * 65]), VOCABULARY)
    with pytest.raises(
        LimitExceeded, match="the trie's sequences have 65 tokens: the bundle writes at most 64"
    ):
        generator.search(PROMPT, trie)
    with pytest.raises(InvalidRequest, match="beams is 0: give a whole number from 1 to 256"):
        generator.search(PROMPT, TokenTrie.of(["a"], np.array([[3]]), VOCABULARY), beams=0)


@given(st.sets(st.tuples(*[st.integers(0, 3)] * 3), min_size=1), st.integers(0, 5))
def test_beams_as_wide_as_the_trie_are_exact_whatever_the_logits(
    sequences: set[tuple[int, ...]], seed: int
) -> None:
    rows = np.array(sorted(sequences))
    rng = np.random.default_rng(seed)
    table = {
        begin: rng.normal(size=4).astype(np.float32)
        for level in range(3)
        for begin in itertools.product(range(4), repeat=level)
    }
    beams = Beams(TokenTrie.of([str(row) for row in rows], rows, 4), width=64)
    while not beams.complete:
        children = beams.children()
        begins = [tuple(beams.tokens[parent].tolist()) for parent in children.parents]
        told = [_logprob(table[begin], token) for begin, token in zip(begins, children.tokens, strict=True)]
        beams.extend(children, np.array(told))
    scores = [
        sum(_logprob(table[tuple(row[:level])], row[level]) for level in range(3)) for row in rows.tolist()
    ]
    order = np.argsort(-np.array(scores), kind="stable")
    np.testing.assert_allclose(beams.scores, np.array(scores)[order], atol=1e-5)
    np.testing.assert_array_equal(beams.tokens, rows[order])


def test_of_equal_sequences_the_smaller_are_kept() -> None:
    rows = np.array(sorted(itertools.product(range(7), repeat=2)))
    beams = Beams(TokenTrie.of([str(row) for row in rows], rows, 7), width=5)
    while not beams.complete:
        children = beams.children()
        beams.extend(children, np.full(len(children.nodes), -np.log(7)))
    assert beams.tokens.tolist() == rows[:5].tolist()


def _logprob(logits: np.ndarray, token: int) -> float:
    return float(logits[token] - np.log(np.exp(logits.astype(np.float64)).sum()))


def _content(result: SearchResult) -> tuple[object, ...]:
    return result.keys, result.token_ids.tolist(), np.round(result.scores, 4).tolist()
