"""`PromptEncoder`: a request's prefix and items as runs of token ids, by the bundle's prompt.

Owns tokenization, templates, limits and the checks of what callers pass. Each segment is tokenized on its own, or
together with its neighbours where it is joined to them, and the ids are joined: a prefix has the same ids whatever item
follows, so its KV can be reused.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Self, get_args

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import check_choice, check_prefix, is_chat
from rankport.protos.columns import ItemColumns, RaggedIds
from rankport.protos.errors import InvalidRequest, LimitExceeded
from rankport.protos.types import Item, Prefix, Truncation
from rankport.protos.wording import listed
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import ManifestDraft
from rankport.runtime.prompt.chats import ChatEncoder
from rankport.runtime.prompt.checks import (
    checked_columns,
    checked_ids,
    field_texts,
    refuse_chat,
    refuse_unknown,
)
from rankport.runtime.prompt.encoded import (
    EMPTY,
    NO_KEYED_TOKENS,
    EncodedItems,
    EncodedPrefix,
    KeyedTokens,
    embedded_items,
    encoded_items,
    filled_items,
    resident_items,
    without_blanks,
)
from rankport.runtime.prompt.far_texts import starts_of
from rankport.runtime.prompt.item_fields import ItemFields
from rankport.runtime.prompt.joined.prefix import JoinedPrefix
from rankport.runtime.prompt.parts import ItemParts, PromptParts
from rankport.runtime.prompt.template import Ids, tokens_kept
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.tokens import TokenRun

_TRUNCATIONS = get_args(Truncation)


class PromptEncoder:
    """Immutable once built: safe to use from several threads at once."""

    def __init__(
        self, manifest: ManifestDraft, tokenizer: Tokenizer | None, *, kept: int | None = None
    ) -> None:
        """Tokenizes the prompt's literal segments. Of a text `kept` tokens are kept at most, if no limit says so.

        Raises:
            BundleError: the prompt names tokens that tokenizer or model lack, or its literals exceed a limit.
        """
        self.fields = manifest.prompt.fields
        self._kept = kept
        self._tokenizer = tokenizer
        self._vocab_size = manifest.shape.vocab_size
        self._max_prefix_tokens = manifest.limits.max_prefix_tokens
        self._chat = (
            None
            if manifest.chat is None
            else ChatEncoder(manifest.chat, tokenizer, self._vocab_size, self._max_prefix_tokens)
        )
        parts = PromptParts.of(manifest, tokenizer)
        self._prefix = parts.prefix
        taken = manifest.embedded_item
        self._items: ItemParts | ItemFields
        if manifest.prompt.item_fields:
            self._items = ItemFields.of(parts, taken)
        else:
            self._items = parts.items(taken)

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Self:
        """Makes the encoder of an opened bundle. Raises `BundleError` if its tokenizer and prompt do not fit."""
        name = bundle.manifest.tokenizer
        tokenizer = None if name is None else Tokenizer.from_file(bundle.file(name))
        return cls(bundle.manifest, tokenizer)

    def encode_prefix(self, prefix: Prefix, truncation: Truncation = "error") -> EncodedPrefix:
        """Encodes the prefix of a request; it may be empty.

        A str fills the prompt's only field, a mapping gives exactly its fields; token ids are the whole
        prefix, taken verbatim and never cut, and so is a chat. Where a bundle takes chats, the field is one of one
        message.

        Raises:
            InvalidRequest: fields are missing or unknown, or a value is malformed.
            LimitExceeded: a field or the whole is too long and `truncation` is "error".
        """
        check_truncation(truncation)
        check_prefix(prefix)
        if self._chat is None:
            refuse_chat(prefix, self.fields)
        elif is_chat(prefix):
            return EncodedPrefix(TokenRun(self._chat.encode(prefix)), truncated=False)
        if not isinstance(prefix, str | Mapping):
            return EncodedPrefix(TokenRun(self._whole_prefix(prefix)), truncated=False)
        texts = field_texts(prefix, self.fields)
        if self._chat is not None:
            said = [{"role": role, "content": text} for role, text in zip(self.fields, texts, strict=True)]
            return EncodedPrefix(TokenRun(self._chat.encode(said)), truncated=False)
        own = len(self._prefix.slots)
        encoded = self._encoded_prefix(texts[:own], truncation)
        if not isinstance(self._items, ItemFields):
            return encoded
        around, cut = self._around(self._items, texts[own:], truncation)
        return replace(encoded, truncated=encoded.truncated or cut, around=around)

    def _encoded_prefix(self, texts: Sequence[str], truncation: Truncation) -> EncodedPrefix:
        texts = self._starts(texts, tokens_kept(self._prefix.slots, self._prefix.limit, truncation))
        if isinstance(self._prefix, JoinedPrefix):
            ids, truncated = self._prefix.fill(texts, truncation, "prefix")
            self._refuse_unknown(RaggedIds.of_lengths(ids, np.array([len(ids)])), lambda _: "prefix")
            return EncodedPrefix(TokenRun(ids), truncated)
        runs = self._tokenize(texts, lambda index: f"prefix field {self.fields[index]!r}")
        values = [runs.run(index) for index in range(len(runs))]
        ids, truncated = self._prefix.fill(values, truncation, "prefix")
        return EncodedPrefix(TokenRun(ids), truncated)

    def _around(
        self, items: ItemFields, texts: Sequence[str], truncation: Truncation
    ) -> tuple[ItemParts, bool]:
        """Makes what stands around a request's items of the texts of the fields there."""
        texts = self._starts(texts, tokens_kept(items.slots, items.limit, truncation))
        around, cut = items.fill(texts, truncation, "prefix")
        ids = np.concatenate([around.template.before, around.template.after])
        self._refuse_unknown(RaggedIds.of_lengths(ids, np.array([len(ids)])), lambda _: "prefix")
        return around, cut

    def encode_items(
        self,
        items: Iterable[Item] | ItemColumns,
        truncation: Truncation = "error",
        keyed: KeyedTokens = NO_KEYED_TOKENS,
        *,
        behind: EncodedPrefix | None = None,
        skip_empty: bool = False,
    ) -> EncodedItems:
        """Encodes the items that bring tokens, and those whose keys have some; texts are tokenized in one call.

        Text, token ids or embedding tokens fill the item segment; the other segments are put around them, with what
        the request's fields say there: where the prompt has such, items are encoded `behind` their prefix. An item is
        empty that has no token of its own, or a text of blanks: with `skip_empty` it is told apart, and gets no run.

        Raises:
            InvalidRequest: an item is malformed, empty, or is a key without a store; the message has its index.
            LimitExceeded: an item is too long and `truncation` is "error".
        """
        check_truncation(truncation)
        columns = ItemColumns.of(items)
        parts = self._parts(behind)
        encoded = [
            *self._encoded_ids(parts, columns, truncation),
            *embedded_items(parts, columns.embeddings),
            *embedded_items(parts, keyed.stored),
            *resident_items(parts, keyed.resident),
        ]
        if columns.keys is not None and keyed is NO_KEYED_TOKENS and len(columns.keys.places):
            raise InvalidRequest(f"item {columns.keys.places[0]} is a Key; give text or token ids")
        joined = EncodedItems.in_order(encoded)
        if len(joined.empty) and not skip_empty:
            raise InvalidRequest(f"item {joined.empty[0]}: {EMPTY}")
        return joined

    def _parts(self, behind: EncodedPrefix | None) -> ItemParts:
        """Gives what stands around the items. Raises `InvalidRequest` if the prompt's fields there have no text."""
        if isinstance(self._items, ItemParts):
            return self._items
        if behind is None or behind.around is None:
            names = listed([slot.name for slot in self._items.slots])
            raise InvalidRequest(
                f"prefix: token ids say nothing of {names}, which stands in each item: give fields"
            )
        return behind.around

    def _encoded_ids(
        self, parts: ItemParts, columns: ItemColumns, truncation: Truncation
    ) -> Iterator[EncodedItems]:
        """Encodes items of texts, and of token ids."""
        if columns.texts is not None:
            texts, empty = without_blanks(columns.texts)
            filled = self._filled_texts(parts, texts.values, truncation, texts.places)
            yield replace(filled, empty=np.concatenate([filled.empty, empty]))
        if columns.token_ids is not None:
            places = columns.token_ids.places
            checked = checked_columns(columns.token_ids.values, self._vocab_size, places)
            yield filled_items(parts.template, checked, truncation, places)

    def _filled_texts(
        self, parts: ItemParts, texts: Sequence[str], truncation: Truncation, places: NDArray[np.int64]
    ) -> EncodedItems:
        item = parts.template
        texts = self._starts(texts, tokens_kept([item.slot], item.template.limit, truncation) * len(texts))
        tokenize = partial(self._tokenize, where=lambda index: f"item {places[index]}")
        if parts.texts is None:
            return filled_items(item, tokenize(texts), truncation, places)
        filled, cut, empty = parts.texts.fill(texts, tokenize, truncation, places)
        encoded = encoded_items(filled, cut, places)
        if not empty.any():
            return encoded
        kept = np.flatnonzero(~empty)
        return replace(encoded, runs=encoded.runs.take(kept), places=places[kept], empty=places[empty])

    def _whole_prefix(self, prefix: object) -> Ids:
        ids = checked_ids(prefix, self._vocab_size, "prefix")
        if len(ids) > self._max_prefix_tokens:
            raise LimitExceeded(
                f"prefix: {len(ids)} token ids, max_prefix_tokens is {self._max_prefix_tokens}: "
                "token ids are never cut, give fewer"
            )
        return ids

    def _starts(self, texts: Sequence[str], kept: Sequence[int | None]) -> Sequence[str]:
        """Leaves of texts what decides their first tokens, of which so many are kept."""
        if self._tokenizer is None:
            return texts
        most = [each if each is None or self._kept is None else min(each, self._kept) for each in kept]
        return starts_of(self._tokenizer, texts, most)

    def _tokenize(self, texts: Sequence[str], where: Callable[[int], str]) -> RaggedIds:
        """Tokenizes the texts; `where` names one in messages."""
        if not len(texts):
            return RaggedIds.of_lengths(np.empty(0, np.int64), np.empty(0, np.int64))
        if self._tokenizer is None:
            raise InvalidRequest(f"{where(0)}: is text, but the bundle has no tokenizer: give token ids")
        runs = self._tokenizer.encode_ragged(texts)
        self._refuse_unknown(runs, where)
        return runs

    def _refuse_unknown(self, runs: RaggedIds, where: Callable[[int], str]) -> None:
        """Refuses a token that the model has no row for."""
        assert self._tokenizer is not None
        refuse_unknown(runs, self._vocab_size, where, self._tokenizer.decode)


def check_truncation(truncation: object) -> None:
    """Raises `InvalidRequest` for what is none."""
    check_choice("truncation", truncation, _TRUNCATIONS)
