"""`PromptTemplate`: one part of a prompt, prefix or item, as literal ids and slots, and how it is cut to fit.

Works on token ids only, of values that are tokenized by themselves; `joined` owns those that are not. Where
ids come from is `encoder`'s business.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BundleError, LimitExceeded
from rankport.protos.types import Truncation
from rankport.protos.wording import counted

Ids = NDArray[np.int64]

WAY_OUT = "shorten it, or have it cut: truncation 'truncate' (score --truncate, encode --truncation truncate)"


@dataclass(frozen=True, slots=True)
class Slot:
    """Place where a request's tokens go."""

    name: str  # of the field, or "item"
    max_tokens: int | None
    keep: Literal["start", "end"]
    is_item: bool = False

    def cut(self, ids: Ids, length: int) -> Ids:
        """Cuts to the `length` tokens that survive."""
        return ids[:length] if self.keep == "start" else ids[len(ids) - length :]


@dataclass(frozen=True, slots=True)
class TokenLimit:
    """Most tokens of a part of the prompt, and the limit's name in messages."""

    tokens: int
    name: str


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """Literal ids and slots in order, and the most tokens they may have together."""

    pieces: tuple[Ids | Slot, ...]
    slots: tuple[Slot, ...]  # those among the pieces, in order
    room: int  # tokens that the literals leave to the slots
    limit: TokenLimit

    @classmethod
    def of(cls, pieces: Sequence[Ids | Slot], limit: TokenLimit, least: int, where: str) -> Self:
        """Makes the template of these pieces.

        Raises `BundleError`, opened by `where`, if the literals leave less than `least` tokens to the slots.
        """
        slots = tuple(piece for piece in pieces if isinstance(piece, Slot))
        literals = sum(len(piece) for piece in pieces if not isinstance(piece, Slot))
        require_room(literals, limit, least, where)
        return cls(tuple(pieces), slots, limit.tokens - literals, limit)

    def fill(self, values: Sequence[Ids], truncation: Truncation, where: str) -> tuple[Ids, bool]:
        """Joins all ids in order, with `values` in the slots, and says whether any was cut.

        Raises:
            LimitExceeded: under "error", a slot or the whole is over its limit; `where` opens the message.
        """
        if truncation == "error":
            self.refuse_overlong(values, where)
            return self.join(values), False
        slots = self.slots
        capped = [min(len(ids), slot.max_tokens or len(ids)) for slot, ids in zip(slots, values, strict=True)]
        kept = fair_shares(capped, self.room)
        cut = [slot.cut(ids, length) for slot, ids, length in zip(slots, values, kept, strict=True)]
        return self.join(cut), any(len(ids) > length for ids, length in zip(values, kept, strict=True))

    def join(self, values: Sequence[Ids]) -> Ids:
        """Joins all ids in order, with `values` in the slots, whatever their length."""
        rest = iter(values)
        parts = [next(rest) if isinstance(piece, Slot) else piece for piece in self.pieces]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def refuse_overlong(self, values: Sequence[Ids], where: str) -> None:
        """Raises `LimitExceeded` if a slot or the whole is over its limit; `where` opens the message."""
        for slot, ids in zip(self.slots, values, strict=True):
            refuse_overlong_slot(slot, len(ids), where)
        literals = self.limit.tokens - self.room
        refuse_overlong_whole(self.slots, literals + sum(len(ids) for ids in values), self.limit, where)


def fair_shares(lengths: Sequence[int], room: int) -> list[int]:
    """Shares out what each may keep so that all fit into `room`: short ones stay whole, long ones share the rest."""
    shares = [0] * len(lengths)
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    for rank, index in enumerate(order):
        shares[index] = min(lengths[index], room // (len(order) - rank))
        room -= shares[index]
    return shares


def refuse_overlong_slot(slot: Slot, tokens: int, where: str) -> None:
    """Raises `LimitExceeded` if a slot's value has more tokens than its `max_tokens`; `where` opens the message."""
    if slot.max_tokens is not None and tokens > slot.max_tokens:
        raise LimitExceeded(
            f"{where}: segment {slot.name!r} has {tokens_told(tokens, slot.max_tokens)}, its max_tokens is "
            f"{slot.max_tokens}: {WAY_OUT}"
        )


def refuse_overlong_whole(slots: Sequence[Slot], tokens: int, limit: TokenLimit, where: str) -> None:
    """Raises `LimitExceeded` if a part has more `tokens` than its limit; `where` opens the message."""
    if tokens > limit.tokens:
        names = ", ".join(repr(slot.name) for slot in slots)
        raise LimitExceeded(
            f"{where}: {tokens_told(tokens, limit.tokens)} with segment {names}, {limit.name} is {limit.tokens}: "
            f"{WAY_OUT}"
        )


def tokens_kept(slots: Sequence[Slot], limit: TokenLimit, truncation: Truncation) -> list[int | None]:
    """Tells how many of a value's first tokens are all that a part needs to know, None: all of them. [slots]

    Of several values that have no limit of their own, the lengths share out what is left.
    """

    def kept(slot: Slot) -> int | None:
        if truncation == "truncate" and (slot.keep == "end" or (slot.max_tokens is None and len(slots) > 1)):
            return None
        return slot.max_tokens or limit.tokens

    return [kept(slot) for slot in slots]


def far_over(most: int) -> int:
    """Tells how many tokens are far more than a limit of so many: further ones of a text may not be counted."""
    return 2 * most + 64


def number_told(tokens: int, most: int) -> str:
    """Writes a number of tokens down, as far as it is known."""
    return str(tokens) if tokens < far_over(most) else f"more than {2 * most}"


def tokens_told(tokens: int, most: int) -> str:
    """Writes a number of tokens down with its noun, as far as it is known."""
    return counted(tokens, "token") if tokens < far_over(most) else f"more than {counted(2 * most, 'token')}"


def require_room(literals: int, limit: TokenLimit, least: int, where: str) -> None:
    """Raises `BundleError` if `literals` tokens and `least` more exceed the limit."""
    if literals + least > limit.tokens:
        raise BundleError(
            f"{where}: literal segments have {literals} tokens, which {limit.name} "
            f"{limit.tokens} does not hold with {least} more"
        )
