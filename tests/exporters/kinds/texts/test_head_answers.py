"""Texts of a proof share passes as long as their attention matrices fit."""

import numpy as np
import pytest

from rankport.exporters.kinds.texts.head_answers import PASS_TOKENS, passes_of
from rankport.exporters.proof.windows import LONGEST, LONGEST_WINDOW, tokens_across


def test_short_texts_share_one_pass() -> None:
    assert list(passes_of(np.array([4, 60, 9]), 3)) == [(0, 3)]


@pytest.mark.parametrize("size", [1, 2])
def test_a_pass_has_no_more_texts_than_asked(size: int) -> None:
    passes = list(passes_of(np.full(5, 7), size))
    assert {end - start for start, end in passes[:-1]} == {size}
    assert [start for start, _ in passes] == [*range(0, 5, size)]
    assert passes[-1][1] == 5


def test_a_short_text_is_padded_beside_the_longest_that_crosses_a_window() -> None:
    assert list(passes_of(np.array([8, tokens_across(LONGEST_WINDOW, 40960)]), 2)) == [(0, 2)]


def test_long_pairs_are_cut_into_passes_with_room() -> None:
    lengths = np.array([20, LONGEST + 500, 30, 2 * LONGEST + 1100, 40, LONGEST, LONGEST, 10, 3 * LONGEST])
    passes = list(passes_of(lengths, len(lengths)))
    assert [start for start, _ in passes] == [0, *(end for _, end in passes[:-1])]
    assert passes[-1][1] == len(lengths)
    for start, end in passes:
        assert end - start == 1 or (end - start) * lengths[start:end].max() <= PASS_TOKENS
    assert any(end - start > 1 for start, end in passes)
