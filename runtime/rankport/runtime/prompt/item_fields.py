"""`ItemFields`: the item's part of a prompt in which fields of the request stand, made for each request.

A prompt that asks about the item behind it has its query there: nothing but what stands before the item is shared, and
every item has the tokens of such a field with its own. Once a request's fields are text like any other around the item,
items are filled as ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rankport.protos.errors import BundleError, LimitExceeded
from rankport.protos.types import Truncation
from rankport.runtime.bundle.manifest import Embedding
from rankport.runtime.prompt.joined.groups import FilledGroup, Group, Piece
from rankport.runtime.prompt.joined.prefix import JoinedPrefix
from rankport.runtime.prompt.parts import ItemParts, PrefixPart, PromptParts, prefix_part
from rankport.runtime.prompt.template import Ids, Slot, TokenLimit, refuse_overlong_slot
from rankport.runtime.prompt.tokenizer import Tokenizer

_WHERE = "prompt.item"
_UNLIMITED = TokenLimit(2**31 - 1, "")  # what fields leave to an item is looked at once, when all are known


@dataclass(frozen=True, slots=True)
class ItemFields:
    """Pieces of the item's part: the one with the item, which may hold fields too, and those before and behind it."""

    before: PrefixPart
    item: Group
    after: PrefixPart
    limit: TokenLimit
    tokenizer: Tokenizer
    embedding: Embedding | None  # form of items that are embedding tokens

    @classmethod
    def of(cls, parts: PromptParts, embedding: Embedding | None) -> "ItemFields":
        """Takes the item's part of a prompt; `embedding` is the form of items that have one.

        Raises `BundleError` if there is no tokenizer, or the limit does not hold the literals, as many tokens of each
        field as it may have (one at least), and those of an item (one, of texts).
        """
        pieces, limit, tokenizer = parts.item, parts.item_limit, parts.tokenizer
        if tokenizer is None:
            raise BundleError(f"{_WHERE}: a field needs a tokenizer, and the bundle has none")
        place = next(place for place, piece in enumerate(pieces) if _holds_item(piece))
        item = pieces[place]
        assert isinstance(item, Group)
        before, after = (
            prefix_part(part, _UNLIMITED, tokenizer, _WHERE) for part in (pieces[:place], pieces[place + 1 :])
        )
        fields = cls(before, item, after, limit, tokenizer, embedding)
        empty, _ = fields._pieces([""] * len(fields.slots), "error", _WHERE)
        least = 1 if embedding is None else embedding.tokens
        least += sum(slot.max_tokens or 1 for slot in fields.slots)
        ItemParts.of(empty, limit, tokenizer, embedding, least=least)
        return fields

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Slots of the fields, in order."""
        return (*self.before.slots, *_own(self.item), *self.after.slots)

    def fill(self, values: Sequence[str], truncation: Truncation, where: str) -> tuple[ItemParts, bool]:
        """Makes what stands around the items of a request, and says whether a value was cut.

        Raises:
            LimitExceeded: under "error", a value is over its limit; or the values leave no room for an item. `where`
                opens the message.
        """
        pieces, cut = self._pieces(values, truncation, where)
        try:
            return ItemParts.of(pieces, self.limit, self.tokenizer, self.embedding), cut
        except BundleError:
            names = ", ".join(repr(slot.name) for slot in self.slots)
            raise LimitExceeded(
                f"{where}: segment {names} leaves an item no room in {self.limit.name} {self.limit.tokens}: shorten it"
            ) from None

    def _pieces(self, values: Sequence[str], truncation: Truncation, where: str) -> tuple[list[Piece], bool]:
        """Puts the values in their slots; the item's is left."""
        rest = iter(values)
        of_before, of_item, of_after = (
            [next(rest) for _ in slots] for slots in (self.before.slots, _own(self.item), self.after.slots)
        )
        before, cut_before = self._ids(self.before, of_before, truncation, where)
        item, cut = self._around_item(of_item, truncation, where)
        after, cut_after = self._ids(self.after, of_after, truncation, where)
        return [before, item, after], cut_before or cut or cut_after

    def _ids(
        self, part: PrefixPart, values: Sequence[str], truncation: Truncation, where: str
    ) -> tuple[Ids, bool]:
        if isinstance(part, JoinedPrefix):
            return part.fill(values, truncation, where)
        return part.fill(self.tokenizer.encode_batch(values), truncation, where)

    def _around_item(self, values: Sequence[str], truncation: Truncation, where: str) -> tuple[Group, bool]:
        """Makes texts of the fields in the item's group. Their tokens are counted as they are beside an empty item."""
        cut, slots = False, _own(self.item)
        if not slots:
            return self.item, cut
        alone = replace(self.item, parts=tuple(part for part in self.item.parts if not _is_item(part)))
        while True:
            filled = FilledGroup.fill(alone, values, self.tokenizer)
            shares = [
                min(count, slot.max_tokens or count) for slot, count in zip(slots, filled.counts, strict=True)
            ]
            if shares == filled.counts:
                break
            if truncation == "error":
                for slot, count in zip(slots, filled.counts, strict=True):
                    refuse_overlong_slot(slot, count, where)
            values, cut = filled.cut_values(shares), True
        rest = iter(values)
        parts = [
            next(rest) if isinstance(part, Slot) and not part.is_item else part for part in self.item.parts
        ]
        return replace(self.item, parts=tuple(part for part in parts if part)), cut


def _own(group: Group) -> tuple[Slot, ...]:
    """Slots of fields in the item's group."""
    return tuple(slot for slot in group.slots if not slot.is_item)


def _is_item(part: str | Slot) -> bool:
    return isinstance(part, Slot) and part.is_item


def _holds_item(piece: Piece) -> bool:
    return isinstance(piece, Group) and any(map(_is_item, piece.parts))
