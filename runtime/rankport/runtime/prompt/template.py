"""`PromptTemplate`: one part of a prompt, prefix or item, as literal ids and slots, and how it is cut to fit.

Works on token ids only; where they come from is `encoder`'s business.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BundleError, LimitExceeded
from rankport.protos.types import Truncation
from rankport.runtime.bundle.manifest import ManifestDraft, Segment
from rankport.runtime.prompt.tokenizer import Tokenizer

Ids = NDArray[np.int64]

_WAY_OUT = (
    "shorten it, or have it cut: truncation 'truncate' (score --truncate, encode --truncation truncate)"
)


@dataclass(frozen=True, slots=True)
class Slot:
    """Place where a request's tokens go."""

    name: str  # of the field, or "item"
    max_tokens: int | None
    keep: Literal["start", "end"]

    def cut(self, ids: Ids, length: int) -> Ids:
        """Cuts to the `length` tokens that survive."""
        return ids[:length] if self.keep == "start" else ids[len(ids) - length :]


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """Literal ids and slots in order, and the most tokens they may have together."""

    pieces: tuple[Ids | Slot, ...]
    slots: tuple[Slot, ...]  # those among the pieces, in order
    room: int  # tokens that the literals leave to the slots
    limit: int
    limit_name: str  # of the limit in messages

    @classmethod
    def of(cls, pieces: tuple[Ids | Slot, ...], limit: int, limit_name: str) -> Self:
        """Makes the template of these pieces; its `room` is negative where the literals alone exceed `limit`."""
        slots = tuple(piece for piece in pieces if isinstance(piece, Slot))
        literals = sum(len(piece) for piece in pieces if not isinstance(piece, Slot))
        return cls(pieces, slots, limit - literals, limit, limit_name)

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
            if slot.max_tokens is not None and len(ids) > slot.max_tokens:
                raise LimitExceeded(
                    f"{where}: segment {slot.name!r} has {len(ids)} tokens, "
                    f"its max_tokens is {slot.max_tokens}: {_WAY_OUT}"
                )
        tokens = sum(len(ids) for ids in values)
        if tokens > self.room:
            total = self.limit - self.room + tokens
            names = ", ".join(repr(slot.name) for slot in self.slots)
            raise LimitExceeded(
                f"{where}: {total} tokens with segment {names}, {self.limit_name} is {self.limit}: {_WAY_OUT}"
            )


def prefix_template(manifest: ManifestDraft, tokenizer: Tokenizer | None) -> PromptTemplate:
    """Makes the prefix's template, its literals tokenized; raises `BundleError` if they do not fit the bundle."""
    pieces = _pieces(manifest.prompt.prefix, tokenizer, manifest.shape.vocab_size, "prompt.prefix")
    made = PromptTemplate.of(pieces, manifest.limits.max_prefix_tokens, "max_prefix_tokens")
    return _with_room(made, 0, "prompt.prefix")


def item_template(manifest: ManifestDraft, tokenizer: Tokenizer | None) -> PromptTemplate:
    """Makes an item's template; as `prefix_template`, and it leaves room for at least one token of the item."""
    pieces = _pieces(manifest.prompt.item, tokenizer, manifest.shape.vocab_size, "prompt.item")
    made = PromptTemplate.of(pieces, manifest.limits.max_item_tokens, "max_item_tokens")
    return _with_room(made, 1, "prompt.item")


def fair_shares(lengths: Sequence[int], room: int) -> list[int]:
    """Shares out what each may keep so that all fit into `room`: short ones stay whole, long ones share the rest."""
    shares = [0] * len(lengths)
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    for rank, index in enumerate(order):
        shares[index] = min(lengths[index], room // (len(order) - rank))
        room -= shares[index]
    return shares


def _with_room(made: PromptTemplate, least: int, where: str) -> PromptTemplate:
    if made.room < least:
        raise BundleError(
            f"{where}: literal segments have {made.limit - made.room} tokens, which {made.limit_name} "
            f"{made.limit} does not hold with {least} more"
        )
    return made


def _pieces(
    segments: Sequence[Segment], tokenizer: Tokenizer | None, vocab_size: int, where: str
) -> tuple[Ids | Slot, ...]:
    pieces = tuple(_piece(segment, tokenizer, f"{where}[{index}]") for index, segment in enumerate(segments))
    for index, piece in enumerate(pieces):
        if not isinstance(piece, Slot) and len(piece) and piece.max() >= vocab_size:
            raise BundleError(
                f"{where}[{index}]: token id {piece.max()} is outside the model's vocabulary of {vocab_size}"
            )
    return pieces


def _piece(segment: Segment, tokenizer: Tokenizer | None, where: str) -> Ids | Slot:
    if segment.field is not None:
        return Slot(segment.field, segment.max_tokens, segment.keep)
    if segment.item is not None:
        return Slot("item", segment.max_tokens, segment.keep)
    if tokenizer is None:
        raise BundleError(f"{where}: text and special need a tokenizer, and the bundle has none")
    if segment.text is not None:
        return tokenizer.encode_batch([segment.text])[0]
    assert segment.special is not None
    return np.array([_special_id(name, tokenizer, where) for name in segment.special], np.int64)


def _special_id(name: str, tokenizer: Tokenizer, where: str) -> int:
    token = tokenizer.token_id(name)
    if token is None:
        raise BundleError(f"{where}.special: {name!r} is not in the tokenizer's vocabulary")
    return token
