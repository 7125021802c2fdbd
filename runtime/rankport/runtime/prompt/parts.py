"""The two parts of a bundle's prompt, ready to be filled: plain where every value is tokenized by itself."""

from dataclasses import dataclass

from rankport.runtime.bundle.manifest import ManifestDraft
from rankport.runtime.prompt.compiled import CompiledPrompt
from rankport.runtime.prompt.item_template import ItemTemplate
from rankport.runtime.prompt.joined.groups import Group, Piece
from rankport.runtime.prompt.joined.items import JoinedItems
from rankport.runtime.prompt.joined.prefix import JoinedPrefix
from rankport.runtime.prompt.template import Ids, PromptTemplate, Slot, TokenLimit
from rankport.runtime.prompt.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class PromptParts:
    """Prefix and item of a prompt."""

    prefix: PromptTemplate | JoinedPrefix
    item: ItemTemplate  # of items of ids and embedding tokens; of texts too, where `item_texts` is None
    item_texts: JoinedItems | None

    @classmethod
    def of(cls, manifest: ManifestDraft, tokenizer: Tokenizer | None) -> "PromptParts":
        """Tokenizes the literals. Raises `BundleError` if the prompt does not fit tokenizer, model or limits."""
        prompt = CompiledPrompt.of(manifest.prompt, tokenizer, manifest.shape.vocab_size)
        most = TokenLimit(manifest.limits.max_prefix_tokens, "max_prefix_tokens")
        item_most = TokenLimit(manifest.limits.max_item_tokens, "max_item_tokens")
        item = [piece for group in prompt.item for piece in _apart(group, tokenizer)]
        template = ItemTemplate.of(PromptTemplate.of(item, item_most, 1, "prompt.item"))
        return cls(
            _prefix(prompt.prefix, most, tokenizer),
            template,
            _joined_items(prompt.item, item_most, tokenizer),
        )


def _prefix(
    pieces: tuple[Piece, ...], limit: TokenLimit, tokenizer: Tokenizer | None
) -> PromptTemplate | JoinedPrefix:
    if any(isinstance(piece, Group) and piece.is_joined for piece in pieces):
        assert tokenizer is not None, "a text is tokenized with a value"
        return JoinedPrefix.of(pieces, limit, tokenizer, "prompt.prefix")
    plain = [piece.slots[0] if isinstance(piece, Group) else piece for piece in pieces]
    return PromptTemplate.of(plain, limit, 0, "prompt.prefix")


def _joined_items(
    pieces: tuple[Piece, ...], limit: TokenLimit, tokenizer: Tokenizer | None
) -> JoinedItems | None:
    group = next(piece for piece in pieces if isinstance(piece, Group))
    if not group.is_joined:
        return None
    assert tokenizer is not None, "a text is tokenized with a value"
    around = [piece.slots[0] if isinstance(piece, Group) else piece for piece in pieces]
    template = PromptTemplate.of(around, limit, 1, "prompt.item")
    return JoinedItems.of(group, ItemTemplate.of(template), limit, tokenizer)


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
