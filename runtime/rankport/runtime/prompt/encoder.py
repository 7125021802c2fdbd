"""`PromptEncoder`: a request's prefix and items as runs of token ids, by the bundle's prompt.

Owns tokenization, templates, limits and the checks of what callers pass. Each segment is tokenized on its own, or
together with its neighbours where it is joined to them, and the ids are joined: a prefix has the same ids whatever item
follows, so its KV can be reused.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self, get_args

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import check_choice, check_prefix
from rankport.protos.columns import Column, Embeddings, ItemColumns, RaggedIds
from rankport.protos.errors import InvalidRequest, LimitExceeded
from rankport.protos.types import Item, Prefix, Truncation
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import ManifestDraft
from rankport.runtime.prompt.checks import (
    checked_columns,
    checked_ids,
    checked_rows,
    field_texts,
    refuse_unknown,
)
from rankport.runtime.prompt.embedded_items import EmbeddedItems
from rankport.runtime.prompt.far_texts import starts_of
from rankport.runtime.prompt.joined.prefix import JoinedPrefix
from rankport.runtime.prompt.parts import PromptParts
from rankport.runtime.prompt.template import Ids, tokens_kept
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.tokens import ResidentItems, TableRows, TokenRun, TokenRuns

_NO_PLACES = np.empty(0, np.int64)
EMPTY = "is empty: it has no token of its own, or blanks alone; leave it out, or give it text"
"""Message of an item that there is nothing to compute of."""
_TRUNCATIONS = get_args(Truncation)


@dataclass(frozen=True, slots=True)
class KeyedTokens:
    """The embedding tokens of a request's keys, as far as there are some."""

    stored: Column[Embeddings] | None = None  # read from a store
    resident: ResidentItems | None = None  # in a device's memory
    # Why there are none, by the place in the request.
    missing: Mapping[int, str] = field(default_factory=dict)


NO_KEYED_TOKENS = KeyedTokens()


@dataclass(frozen=True, slots=True)
class EncodedPrefix:
    """A prefix, ready for the engine."""

    run: TokenRun
    truncated: bool  # some of its text was cut to a limit


@dataclass(frozen=True, slots=True)
class EncodedItems:
    """Items of a request, ready for the engine."""

    runs: TokenRuns
    places: NDArray[np.int64]  # [runs] of each in the request, ascending
    truncated: NDArray[np.int64]  # places of those whose text was cut to a limit, ascending
    # Of those that have no run, and why, ascending.
    empty: NDArray[np.int64] = field(default_factory=_NO_PLACES.copy)

    @classmethod
    def in_order(cls, parts: "Sequence[EncodedItems]") -> "EncodedItems":
        """Joins the items of all parts in the order of the request."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls(TokenRuns.of([]), _NO_PLACES, _NO_PLACES)
        places = np.concatenate([part.places for part in parts])
        order = np.argsort(places, kind="stable")
        runs = TokenRuns.join([part.runs for part in parts]).take(order)
        truncated = np.sort(np.concatenate([part.truncated for part in parts]))
        return cls(runs, places[order], truncated, np.sort(np.concatenate([part.empty for part in parts])))


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
        parts = PromptParts.of(manifest, tokenizer)
        self._prefix, self._item, self._item_texts = parts.prefix, parts.item, parts.item_texts
        embedding = manifest.embedding
        self._embedded_items: EmbeddedItems | None = None
        if embedding is not None and not embedding.is_output:
            self._embedded_items = EmbeddedItems(self._item, embedding)

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Self:
        """Makes the encoder of an opened bundle. Raises `BundleError` if its tokenizer and prompt do not fit."""
        name = bundle.manifest.tokenizer
        tokenizer = None if name is None else Tokenizer.from_file(bundle.file(name))
        return cls(bundle.manifest, tokenizer)

    def encode_prefix(self, prefix: Prefix, truncation: Truncation = "error") -> EncodedPrefix:
        """Encodes the prefix of a request; it may be empty.

        A str fills the prompt's only field, a mapping gives exactly its fields; token ids are the whole
        prefix, taken verbatim and never cut.

        Raises:
            InvalidRequest: fields are missing or unknown, or a value is malformed.
            LimitExceeded: a field or the whole is too long and `truncation` is "error".
        """
        check_truncation(truncation)
        check_prefix(prefix)
        if not isinstance(prefix, str | Mapping):
            return EncodedPrefix(TokenRun(self._whole_prefix(prefix)), truncated=False)
        kept = tokens_kept(self._prefix.slots, self._prefix.limit, truncation)
        texts = self._starts(field_texts(prefix, self.fields), kept)
        if isinstance(self._prefix, JoinedPrefix):
            ids, truncated = self._prefix.fill(texts, truncation, "prefix")
            self._refuse_unknown(RaggedIds.of_lengths(ids, np.array([len(ids)])), lambda _: "prefix")
            return EncodedPrefix(TokenRun(ids), truncated)
        runs = self._tokenize(texts, lambda index: f"prefix field {self.fields[index]!r}")
        values = [runs.run(index) for index in range(len(runs))]
        ids, truncated = self._prefix.fill(values, truncation, "prefix")
        return EncodedPrefix(TokenRun(ids), truncated)

    def encode_items(
        self,
        items: Iterable[Item] | ItemColumns,
        truncation: Truncation = "error",
        keyed: KeyedTokens = NO_KEYED_TOKENS,
        *,
        skip_empty: bool = False,
    ) -> EncodedItems:
        """Encodes the items that bring tokens, and those whose keys have some; texts are tokenized in one call.

        Text, token ids or embedding tokens fill the item segment; the other segments are put around them. An item is
        empty that has no token of its own, or a text of blanks: with `skip_empty` it is told apart, and gets no run.

        Raises:
            InvalidRequest: an item is malformed, empty, or is a key without a store; the message has its index.
            LimitExceeded: an item is too long and `truncation` is "error".
        """
        check_truncation(truncation)
        columns = ItemColumns.of(items)
        encoded = [
            *self._encoded_ids(columns, truncation),
            *self._encoded_embeddings(columns.embeddings),
            *self._encoded_embeddings(keyed.stored),
            *self._encoded_residents(keyed.resident),
        ]
        if columns.keys is not None and keyed is NO_KEYED_TOKENS and len(columns.keys.places):
            raise InvalidRequest(f"item {columns.keys.places[0]} is a Key; give text or token ids")
        joined = EncodedItems.in_order(encoded)
        if len(joined.empty) and not skip_empty:
            raise InvalidRequest(f"item {joined.empty[0]}: {EMPTY}")
        return joined

    def _encoded_ids(self, columns: ItemColumns, truncation: Truncation) -> Iterator[EncodedItems]:
        """Encodes items of texts, and of token ids."""
        if columns.texts is not None:
            texts, empty = without_blanks(columns.texts)
            filled = self._filled_texts(texts.values, truncation, texts.places)
            yield replace(filled, empty=np.concatenate([filled.empty, empty]))
        if columns.token_ids is not None:
            places = columns.token_ids.places
            checked = checked_columns(columns.token_ids.values, self._vocab_size, places)
            yield self._filled(checked, truncation, places)

    def _filled_texts(
        self, texts: Sequence[str], truncation: Truncation, places: NDArray[np.int64]
    ) -> EncodedItems:
        limit = self._item.template.limit
        texts = self._starts(texts, tokens_kept([self._item.slot], limit, truncation) * len(texts))
        tokenize = partial(self._tokenize, where=lambda index: f"item {places[index]}")
        if self._item_texts is None:
            return self._filled(tokenize(texts), truncation, places)
        filled, cut, empty = self._item_texts.fill(texts, tokenize, truncation, places)
        encoded = _encoded(filled, cut, places)
        if not empty.any():
            return encoded
        kept = np.flatnonzero(~empty)
        return replace(encoded, runs=encoded.runs.take(kept), places=places[kept], empty=places[empty])

    def _filled(self, values: RaggedIds, truncation: Truncation, places: NDArray[np.int64]) -> EncodedItems:
        empty = values.lengths == 0
        if not empty.any():
            return _encoded(*self._item.fill(values, truncation, places), places)
        left = RaggedIds.of_lengths(values.ids, values.lengths[~empty])
        return replace(self._filled(left, truncation, places[~empty]), empty=places[empty])

    def _encoded_embeddings(self, column: Column[Embeddings] | None) -> Iterator[EncodedItems]:
        """Encodes items of embedding tokens: they differ in their rows only."""
        if column is None or not len(column.places):
            return
        items = self._embedded(column.places)
        rows = checked_rows(column.values, column.places, items.form.tokens, items.form.hidden_size)
        yield EncodedItems(items.runs(len(column.places), blocks=(rows,)), column.places, _NO_PLACES)

    def _encoded_residents(self, resident: ResidentItems | None) -> Iterator[EncodedItems]:
        """Encodes items whose tokens are in device memory: they need nothing but the ids around them."""
        if resident is None or not len(resident.places):
            return
        items = self._embedded(resident.places)
        table = TableRows(resident.rows.reshape(-1), (resident.kept,), resident.keys)
        yield EncodedItems(items.runs(len(resident.places), table=table), resident.places, _NO_PLACES)

    def _embedded(self, places: NDArray[np.int64]) -> EmbeddedItems:
        """Gives the form of the items at these places. Raises `InvalidRequest` if the bundle takes none of it."""
        if self._embedded_items is None:
            raise InvalidRequest(
                f"item {places[0]}: the bundle takes no embedding tokens: give text or token ids"
            )
        return self._embedded_items

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


def without_blanks(texts: Column[Sequence[str]]) -> tuple[Column[Sequence[str]], NDArray[np.int64]]:
    """Leaves out texts of blanks alone, and gives their places."""
    filled = list(map(str.strip, texts.values))
    if all(filled):
        return texts, _NO_PLACES
    kept = np.array(list(map(bool, filled)), np.bool_)
    left = [text for text, has_some in zip(texts.values, filled, strict=True) if has_some]
    return Column(left, texts.places[kept]), texts.places[~kept]


def _encoded(filled: RaggedIds, cut: NDArray[np.bool_], places: NDArray[np.int64]) -> EncodedItems:
    """Makes the result of filled items."""
    return EncodedItems(TokenRuns(filled.ids, filled.offsets), places, places[cut])


def check_truncation(truncation: object) -> None:
    """Raises `InvalidRequest` for what is none."""
    check_choice("truncation", truncation, _TRUNCATIONS)
