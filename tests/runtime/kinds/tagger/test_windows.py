"""Windows over long texts: which they are, and which speaks for a token."""

import numpy as np
import pytest

from rankport.runtime.kinds.tagger.windows import Windows


def test_texts_that_fit_have_one_window_and_empty_ones_none() -> None:
    windows = Windows.of(np.array([3, 0, 10]), room=10, overlap=4)
    assert windows.text.tolist() == [0, 2]
    assert windows.lengths.tolist() == [3, 10]
    np.testing.assert_array_equal(windows.tokens[windows.speaks], np.arange(13))


@pytest.mark.parametrize(
    ("tokens", "overlap", "starts"),
    [(11, 4, [0, 1]), (16, 4, [0, 6]), (17, 4, [0, 3, 7]), (23, 0, [0, 6, 13])],
)
def test_windows_are_full_and_lie_evenly(tokens: int, overlap: int, starts: list[int]) -> None:
    windows = Windows.of(np.array([tokens]), room=10, overlap=overlap)
    assert windows.starts.tolist() == starts
    assert set(windows.lengths) == {10}
    assert all(np.diff(windows.starts) <= 10 - overlap)


@pytest.mark.parametrize("overlap", [0, 3, 9])
def test_a_token_is_spoken_for_where_it_has_most_context(overlap: int) -> None:
    lengths, room = np.array([4, 37, 10, 11]), 10
    windows = Windows.of(lengths, room, overlap)
    ends = np.cumsum(windows.lengths)
    np.testing.assert_array_equal(windows.tokens[windows.speaks], np.arange(lengths.sum()))
    for token, place in enumerate(windows.speaks.tolist()):
        chosen = int(np.searchsorted(ends, place, side="right"))
        text = windows.text[chosen]
        within = token - int(lengths[:text].sum())
        contexts = {
            window: context(within, int(windows.starts[window]), room, int(lengths[text]))
            for window in np.flatnonzero(windows.text == text).tolist()
        }
        best = max(contexts.values())
        assert chosen == next(window for window, own in contexts.items() if own == best)


def context(token: int, start: int, room: int, tokens: int) -> float:
    """Counts the tokens on the poorer side; -1 outside."""
    if not start <= token < start + room:
        return -1
    left = token - start if start > 0 else np.inf
    right = start + room - 1 - token if start + room < tokens else np.inf
    return min(left, right)
