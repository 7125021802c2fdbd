"""Windows of attention that samples of a proof are to cross: which of them one sample more crosses, and which none.

Owns the lengths up to which proofs sample, and how modes of samples across a window are named: `batch/beyond_window`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

LONGEST = 2048
"""Tokens of a text, prefix or item beyond which none is sampled but across a window: the attention matrix of the
reference would not fit an ordinary machine."""
LONGEST_WINDOW = 2 * LONGEST
"""Tokens of a window up to which a sample crosses it: no longer than the longest prefix and item together."""
BEYOND_WINDOW = "beyond_window"
"""Form of samples that cross a window which the others do not reach the end of."""
BEYOND = 8
"""Tokens by which a sample is to cross a window, at least."""
_SHARE = 8
_Samples = TypeVar("_Samples")
_Answer = TypeVar("_Answer")


def windows_to_cross(windows: Iterable[int], sampled: int, most: int) -> tuple[int | None, int | None]:
    """Finds the longest window that one more sample is to cross, and the shortest that none crosses.

    The longest of the other samples has `sampled` tokens; the limits allow `most`. A sample that crosses a window
    crosses all shorter ones.
    """
    uncrossed = sorted(
        {window for window in windows if window < most and sampled < min(most, window + BEYOND)}
    )
    within = [window for window in uncrossed if window <= LONGEST_WINDOW]
    return max(within, default=None), next((window for window in uncrossed if window > LONGEST_WINDOW), None)


def tokens_across(window: int, most: int) -> int:
    """Counts the tokens of a text that crosses a window, of at most so many.

    An eighth of it lies beyond: less would be lost in a mean over all tokens, more takes memory by the square.
    """
    return min(most, window + max(BEYOND, window // _SHARE))


def answers_by_form(
    answer: Callable[[_Samples], Mapping[str, _Answer]], asked: Mapping[str, _Samples]
) -> Mapping[str, _Answer]:
    """Answers the samples of each form in each mode, whose name a form's stands behind; that of most is empty."""
    return {
        f"{mode}/{form}" if form else mode: given
        for form, samples in asked.items()
        for mode, given in answer(samples).items()
    }


def form_of(mode: str) -> str:
    """Gives the form of the samples of a mode; empty: that of most."""
    return mode.partition("/")[2]
