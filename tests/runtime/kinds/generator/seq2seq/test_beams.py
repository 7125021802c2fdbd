"""Beams over a language model that is a table: against every text there is, by every rule."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.generation import Sampling
from rankport.runtime.bundle.manifest import Decoding, Generation
from rankport.runtime.kinds.generator.seq2seq.beams import BeamRules, BeamSearch
from rankport.runtime.kinds.generator.seq2seq.constraints import ConstrainedSampler, Constraints
from rankport.runtime.kinds.generator.texts.sampler import SamplingRules

VOCABULARY, END, START, LONGEST = 4, 3, 0, 4
TABLE = (
    np.random.default_rng(5).normal(size=(VOCABULARY, VOCABULARY)).astype(np.float32) * 2
)  # by the last token
CHANCES = TABLE - np.log(np.exp(TABLE.astype(np.float64)).sum(axis=1, keepdims=True))


def searched(
    width: int, *, penalty: float = 1.0, early: bool | str = False, repetition: float = 1.0, **rules: int
) -> BeamSearch:
    constraints = Constraints(Decoding(start_id=START, **rules), (END,), LONGEST)
    search = BeamSearch(BeamRules(width, penalty, early, repetition), constraints)
    while not search.done:
        search.extend(TABLE[search.tokens[:, -1]])
    return search


def every_text(penalty: float) -> dict[tuple[int, ...], float]:
    """Scores all texts that end, or are as long as may be."""
    texts = {}
    for length in range(LONGEST + 1):
        for ids in itertools.product(range(END), repeat=length):
            ended = (*ids, END) if length < LONGEST else ids
            pairs = itertools.pairwise((START, *ended))
            texts[ids] = float(sum(CHANCES[pair] for pair in pairs)) / len(ended) ** penalty
    return texts


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_with_beams_for_all_texts_all_are_found_with_their_scores(penalty: float) -> None:
    search = searched(200, penalty=penalty, early="never")
    assert {text.ids: text.score for text in search.whole} == pytest.approx(every_text(penalty), abs=1e-5)
    scores = [text.score for text in search.whole]
    assert scores == sorted(scores, reverse=True)
    assert {text.finish_reason for text in search.whole} == {"stop", "length"}


def test_one_beam_takes_the_likeliest_token_each_time() -> None:
    ids, last = [], START
    while len(ids) < LONGEST and (last := int(TABLE[last].argmax())) != END:
        ids.append(last)
    assert searched(1).whole[0].ids == tuple(ids)


def test_of_equal_tokens_the_smaller_are_kept() -> None:
    rules = BeamRules(2, 1.0, False, 1.0)
    search = BeamSearch(rules, Constraints(Decoding(start_id=START), (99,), LONGEST))
    search.extend(np.zeros((len(search.tokens), 100), np.float32))
    assert search.tokens[:, -1].tolist() == [0, 1]


def test_early_stopping_ends_with_as_many_texts_as_beams() -> None:
    early, patient = searched(2, early=True), searched(2, early="never")
    assert len(early.whole) == 2
    assert early.steps <= patient.steps
    assert patient.whole[0].score >= early.whole[0].score


def test_beams_go_on_from_their_parents() -> None:
    constraints = Constraints(Decoding(start_id=START), (END,), LONGEST)
    search = BeamSearch(BeamRules(3, 1.0, False, 1.0), constraints)
    search.extend(TABLE[search.tokens[:, -1]])
    before = search.tokens
    search.extend(TABLE[search.tokens[:, -1]])
    there = np.isfinite(search.scores)
    np.testing.assert_array_equal(search.tokens[there, :-1], before[search.parents[there]])
    assert len({tuple(row) for row in search.tokens[there].tolist()}) == there.sum()


def allowed(ids: Sequence[int], **rules: int) -> list[int]:
    constraints = Constraints(Decoding(start_id=START, **rules), (END,), LONGEST)
    logits: NDArray[np.float32] = np.arange(VOCABULARY, dtype=np.float32)
    left = constraints.apply(logits, ids)
    assert logits.tolist() == [0, 1, 2, 3]
    return np.flatnonzero(np.isfinite(left)).tolist()  # type: ignore[no-any-return]


def test_rules_leave_tokens_out() -> None:
    assert allowed([START]) == [0, 1, 2, 3]
    assert allowed([START], first_id=2) == [2]
    assert allowed([START, 2], first_id=2) == [0, 1, 2, 3]
    assert allowed([START, 1, 1, 1], last_id=3) == [3]
    assert allowed([START, 1], min_tokens=2) == [0, 1, 2]
    assert allowed([START, 1, 2], min_tokens=2) == [0, 1, 2, 3]
    assert allowed([START, 1, 2, 1], no_repeat_ngram=2) == [0, 1, 3]
    assert allowed([START, 1], no_repeat_ngram=1) == [2, 3]
    assert allowed([START, 1], no_repeat_ngram=3) == [0, 1, 2, 3]


def test_drawn_tokens_keep_the_rules() -> None:
    rules = SamplingRules.of(Sampling(temperature=1.0), Generation(stop_ids=[END]))
    constraints = Constraints(Decoding(start_id=START, first_id=2, no_repeat_ngram=1), (END,), LONGEST)
    sampler = ConstrainedSampler(rules, 1, constraints)
    drawn = [sampler.draw(TABLE[0]) for _ in range(3)]
    assert drawn[0] == 2
    assert sorted(drawn) == [1, 2, 3]
