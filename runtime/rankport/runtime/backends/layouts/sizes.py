"""Sizes that a device runs at: rounded up, so that few shapes come and their kernels can be recorded.

Owns the rounding; the padding up to these sizes is `devices.passes`'.
"""

from dataclasses import dataclass

from rankport.runtime.backends.layouts.packed import PackedInputs


def rounded(size: int) -> int:
    """The next of 16 sizes an octave: at most a sixteenth more than asked for."""
    if size <= 16:
        return size
    step: int = 1 << (size.bit_length() - 5)
    return -(-size // step) * step


_LINE = 8
"""What attention's products are fastest in multiples of, and never 0: a device need not know empty products."""


def lines(size: int) -> int:
    """Rounded, and a multiple of what attention's products are fastest in; 0 becomes one."""
    size = rounded(size)
    return max(-(-size // _LINE), 1) * _LINE


@dataclass(frozen=True, slots=True)
class Sizes:
    """Axes of one pass."""

    prefixes: int
    items: int
    item_tokens: int
    past: int
    tokens: int
    items_total: int
    embedding_count: int

    @classmethod
    def of(cls, packed: PackedInputs) -> "Sizes":
        """As they are. A graph that takes embeddings gathers row 0 even for text, so there is always one."""
        prefixes, items, item_tokens = packed.slots.shape
        return cls(
            prefixes,
            items,
            item_tokens,
            int(packed.past_lengths.max()),
            packed.input_ids.size,
            packed.last_tokens.size,
            1 if packed.embeddings is None else len(packed.embeddings),
        )

    def rounded_up(self) -> "Sizes":
        """The bucket that holds them."""
        return Sizes(
            rounded(self.prefixes),
            rounded(self.items),
            self.item_tokens if self.item_tokens <= _LINE else lines(self.item_tokens),
            lines(self.past),
            rounded(self.tokens),
            rounded(self.items_total),
            rounded(self.embedding_count),
        )
