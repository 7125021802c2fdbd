"""Sizes that a device runs at: rounded up, so that few shapes come and their kernels can be recorded.

Owns the rounding and the padding of packed inputs. What is padded is computed and read by nobody: padded tokens take
part in no slot, padded slots repeat token 0, padded read-outs are cut off.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.layout import PackedInputs

Array = NDArray[np.generic]


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


def padded(packed: PackedInputs, to: Sizes, hidden: int) -> dict[str, tuple[tuple[int, ...], Array, float]]:
    """Graph inputs by name, without the past: the padded shape, what goes into its corner, and what fills the rest."""
    nothing = np.zeros((1, hidden), np.float32)
    embeddings = nothing if packed.embeddings is None else packed.embeddings
    corner: dict[str, tuple[tuple[int, ...], Array, float]] = {
        "input_ids": ((to.tokens,), packed.input_ids, 0),
        "position_ids": ((to.tokens,), packed.position_ids, 0),
        "token_slots": ((to.tokens,), _moved(packed, to), 0),
        "slots": ((to.prefixes, to.items, to.item_tokens), packed.slots, 0),
        "past_lengths": ((to.prefixes,), packed.past_lengths, 0),
        "last_tokens": ((to.items_total,), packed.last_tokens, 0),
        "embeddings": ((to.embedding_count, hidden), embeddings, 0.0),
        "embedding_rows": ((to.tokens,), packed.embedding_rows, -1),
    }
    return corner


def _moved(packed: PackedInputs, to: Sizes) -> NDArray[np.int64]:
    """Flat slots of the tokens in the padded layout."""
    _, items, item_tokens = packed.slots.shape
    prefix, rest = np.divmod(packed.token_slots, items * item_tokens)
    item, token = np.divmod(rest, item_tokens)
    moved: NDArray[np.int64] = (prefix * to.items + item) * to.item_tokens + token
    return moved
