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
    row_items: int = 1  # of each row, where a graph tells them apart


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


_FEW_PREFIXES, _SHORT_TOKENS, _SHORT_STEP = 32, 128, 16


def prefill_prefixes(count: int) -> int:
    """Rounds prefixes of a prefill pass up to few sizes: from 32 on by a quarter at most.

    A pass of fewer short ones takes about as long as its kernels need to start, however many there are.
    """
    if count <= 2:
        return count
    steps = 4 if count > _FEW_PREFIXES else 2
    step: int = max((1 << (count.bit_length() - 1)) // steps, 4 if count > 4 else 2)
    return -(-count // step) * step


def prefill_tokens(count: int) -> int:
    """Rounds tokens of prefixes in a prefill pass up, or those before them: few to few sizes, more as `lines`."""
    return lines(count) if count > _SHORT_TOKENS else max(-(-count // _SHORT_STEP), 1) * _SHORT_STEP


def prefill_sizes(tokens: int, prefixes: int, longest: int) -> list[tuple[int, int]]:
    """Lists (prefixes, tokens of each) of all passes of short prefixes, the largest first.

    Passes hold at most `tokens` tokens, `prefixes` prefixes, and prefixes `longest` tokens.
    """
    sizes = {
        (prefill_prefixes(count), prefill_tokens(each)): count * each
        for each in range(min(_SHORT_TOKENS, longest), 0, -1)
        for count in range(max(min(prefixes, tokens // each), 1), 0, -1)
    }
    return sorted(sizes, key=lambda size: -size[0] * size[1])
