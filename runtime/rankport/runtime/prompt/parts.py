"""The two parts of a bundle's prompt, ready to be filled: plain where every value is tokenized by itself."""

from collections.abc import Sequence
from dataclasses import dataclass

from rankport.runtime.bundle.manifest import Embedding, ManifestDraft
from rankport.runtime.prompt.compiled import CompiledPrompt
from rankport.runtime.prompt.embedded_items import EmbeddedItems
from rankport.runtime.prompt.item_template import ItemTemplate
from rankport.runtime.prompt.joined.groups import Group, Piece
from rankport.runtime.prompt.joined.items import JoinedItems
from rankport.runtime.prompt.joined.prefix import JoinedPrefix
from rankport.runtime.prompt.template import Ids, PromptTemplate, Slot, TokenLimit
from rankport.runtime.prompt.tokenizer import Tokenizer

PrefixPart = PromptTemplate | JoinedPrefix


@dataclass(frozen=True, slots=True)
class ItemParts:
    """Texts and ids around the items of a request."""

    template: ItemTemplate  # of items of ids and embedding tokens; of texts too, where `texts` is None
    texts: JoinedItems | None
    embedded: EmbeddedItems | None  # None: no embedding tokens are taken

    @classmethod
    def of(
        cls,
        pieces: Sequence[Piece],
        limit: TokenLimit,
        tokenizer: Tokenizer | None,
        embedding: Embedding | None = None,
        *,
        least: int = 1,
    ) -> "ItemParts":
        """Takes pieces of which one holds the item, and none a field; `embedding` is the form of items that have one.

        Raises `BundleError` if the limit has no room for `least` tokens, or for those of the form.
        """
        apart = [ids for piece in pieces for ids in _apart(piece, tokenizer)]
        template = ItemTemplate.of(PromptTemplate.of(apart, limit, least, "prompt.item"))
        embedded = None if embedding is None else EmbeddedItems(template, embedding)
        return cls(template, _joined_items(pieces, limit, tokenizer, least), embedded)


@dataclass(frozen=True, slots=True)
class PromptParts:
    """Prefix and item of a prompt."""

    prefix: PrefixPart
    item: tuple[Piece, ...]
    item_limit: TokenLimit
    tokenizer: Tokenizer | None

    @classmethod
    def of(cls, manifest: ManifestDraft, tokenizer: Tokenizer | None) -> "PromptParts":
        """Tokenizes the literals. Raises `BundleError` if the prompt does not fit tokenizer, model or limits."""
        prompt = CompiledPrompt.of(manifest.prompt, tokenizer, manifest.shape.vocab_size)
        most = TokenLimit(manifest.limits.max_prefix_tokens, "max_prefix_tokens")
        item_most = TokenLimit(manifest.limits.max_item_tokens, "max_item_tokens")
        prefix = prefix_part(prompt.prefix, most, tokenizer, "prompt.prefix")
        return cls(prefix, prompt.item, item_most, tokenizer)

    def items(self, embedding: Embedding | None = None) -> ItemParts:
        """Makes the item's part of a prompt without fields there. Raises as `ItemParts.of`."""
        return ItemParts.of(self.item, self.item_limit, self.tokenizer, embedding)


def prefix_part(
    pieces: tuple[Piece, ...], limit: TokenLimit, tokenizer: Tokenizer | None, where: str
) -> PrefixPart:
    """Makes the part of these pieces, without an item. Raises `BundleError` if it exceeds the limit."""
    if any(isinstance(piece, Group) and piece.is_joined for piece in pieces):
        assert tokenizer is not None, "a text is tokenized with a value"
        return JoinedPrefix.of(pieces, limit, tokenizer, where)
    plain = [piece.slots[0] if isinstance(piece, Group) else piece for piece in pieces]
    return PromptTemplate.of(plain, limit, 0, where)


def _joined_items(
    pieces: Sequence[Piece], limit: TokenLimit, tokenizer: Tokenizer | None, least: int
) -> JoinedItems | None:
    group = next(piece for piece in pieces if isinstance(piece, Group))
    if not group.is_joined:
        return None
    assert tokenizer is not None, "a text is tokenized with a value"
    around = [piece.slots[0] if isinstance(piece, Group) else piece for piece in pieces]
    template = PromptTemplate.of(around, limit, least, "prompt.item")
    return JoinedItems.of(group, ItemTemplate.of(template), limit, tokenizer, least)


def _apart(piece: Piece, tokenizer: Tokenizer | None) -> list[Ids | Slot]:
    """Tokenizes the texts of a group without its value."""
    if not isinstance(piece, Group):
        return [piece]
    if not piece.is_joined:
        return list(piece.slots)
    assert tokenizer is not None, "a text is tokenized with a value"
    place = next(place for place, part in enumerate(piece.parts) if isinstance(part, Slot))
    before = Group(piece.parts[:place], piece.context, piece.context_ids).ids([], tokenizer)
    after = Group(piece.parts[place + 1 :]).ids([], tokenizer)
    return [before, *piece.slots, after]
