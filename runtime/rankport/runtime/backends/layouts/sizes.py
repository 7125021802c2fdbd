"""Sizes of a pass, and the sizes that a device runs at: rounded up, so that few shapes come and can be recorded.

Owns the rounding; the padding up to these sizes is the layouts'.
"""

from dataclasses import dataclass

LINE = 8
"""Tokens that attention's products are fastest in multiples of."""


@dataclass(frozen=True, slots=True)
class PassSizes:
    """The axes of one pass, as a layout of its tokens has them."""

    prefixes: int
    rows: int  # of each prefix: items, or rows of several short ones
    row_tokens: int
    past: int
    tokens: int
    items_total: int
    embedding_count: int  # rows of embeddings that come with the pass


def rounded(size: int) -> int:
    """Rounds up to the next of 16 sizes an octave: at most a sixteenth more than asked for."""
    if size <= 16:
        return size
    step: int = 1 << (size.bit_length() - 5)
    return -(-size // step) * step


def lines(size: int) -> int:
    """Rounds up as `rounded`, and to a multiple of `LINE`; 0 becomes one: a device need not know empty products."""
    size = rounded(size)
    return max(-(-size // LINE), 1) * LINE
