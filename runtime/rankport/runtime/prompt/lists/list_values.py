"""Values of a list's prompt: a request's fields and items as texts, ids or embedding tokens, each within its limit.

Owns what is cut, what is empty, and the policy on markers in what callers say. `list_template` puts values together.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import check_prefix
from rankport.protos.columns import Column, Embeddings, ItemColumns
from rankport.protos.errors import InvalidRequest, LimitExceeded
from rankport.protos.types import Prefix, Truncation
from rankport.runtime.bundle.manifest import Embedding, ManifestDraft
from rankport.runtime.prompt.checks import (
    checked_columns,
    checked_ids,
    checked_rows,
    field_texts,
    fields_told,
    refuse_chat,
)
from rankport.runtime.prompt.encoded import EMPTY, KeyedTokens, without_blanks
from rankport.runtime.prompt.far_texts import starts_of
from rankport.runtime.prompt.lists.list_template import Ids, Part
from rankport.runtime.prompt.markers import Markers
from rankport.runtime.prompt.template import WAY_OUT, fair_shares, tokens_told
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.tokens import EMBEDDED, EmbeddingRows


@dataclass(frozen=True, slots=True)
class FieldValues:
    """Values of the prompt's fields by name, and whether one was cut."""

    parts: Mapping[str, Part]
    truncated: bool


@dataclass(frozen=True, slots=True)
class ItemValues:
    """Items that there is something to compute of, in the order of the request."""

    parts: tuple[Part, ...]  # [items]; EMBEDDED where an embedding token stands
    places: NDArray[np.int64]  # [items] of each in the request, ascending
    truncated: NDArray[np.int64]  # places of those that were cut, ascending
    empty: NDArray[np.int64]  # of those without a token of their own, ascending
    embeddings: EmbeddingRows | None  # [embedding tokens of all items, hidden], in order


class ListValues:
    """Immutable once built: safe to use from several threads at once."""

    def __init__(self, manifest: ManifestDraft, tokenizer: Tokenizer, markers: Markers) -> None:
        """Takes limits, fields and the form of embedding tokens from the manifest."""
        self._fields = manifest.prompt.fields
        self._limits = manifest.limits
        self._vocab_size = manifest.shape.vocab_size
        self._tokenizer, self._markers = tokenizer, markers
        self._embedding = manifest.embedding

    def fields(self, prefix: Prefix, truncation: Truncation) -> FieldValues:
        """Takes a request's prefix: texts of the fields, or token ids of the only one.

        Raises:
            InvalidRequest: fields are missing or unknown, a value is malformed, or ids hold a marker.
            LimitExceeded: they are too long together, and are ids or `truncation` is "error".
        """
        check_prefix(prefix)
        refuse_chat(prefix, self._fields)
        if not isinstance(prefix, str | Mapping):
            return FieldValues({self._only_field(): self._field_ids(prefix)}, truncated=False)
        texts = [self._markers.cleaned(text) for text in field_texts(prefix, self._fields)]
        most = self._limits.max_prefix_tokens
        if truncation == "error" or len(texts) == 1:  # else the lengths share out what is left
            texts = list(starts_of(self._tokenizer, texts, [most] * len(texts)))
        lengths = [len(ids) for ids in self._tokenizer.encode_batch(texts)]
        if sum(lengths) > most and truncation == "error":
            raise LimitExceeded(
                f"prefix: {tokens_told(sum(lengths), most)}, max_prefix_tokens is {most}: {WAY_OUT}"
            )
        kept = fair_shares(lengths, most)
        cut = [
            _first_tokens(self._tokenizer, text, share) if share < length else text
            for text, length, share in zip(texts, lengths, kept, strict=True)
        ]
        return FieldValues(dict(zip(self._fields, cut, strict=True)), truncated=sum(lengths) > most)

    def items(
        self, columns: ItemColumns, truncation: Truncation, keyed: KeyedTokens, *, skip_empty: bool
    ) -> ItemValues:
        """Takes a request's items. An empty one is told apart with `skip_empty`, and an error otherwise.

        Raises:
            InvalidRequest: an item is malformed or empty, or its ids hold a marker; the message has its index.
            LimitExceeded: an item is too long and `truncation` is "error".
        """
        if columns.keys is not None and len(columns.keys.places) and keyed.stored is None:
            raise InvalidRequest(f"item {columns.keys.places[0]} is a Key; give text or token ids")
        found = [
            *self._texts(columns, truncation),
            *self._ids(columns, truncation),
            *self._embedded(columns.embeddings),
            *self._embedded(keyed.stored),
        ]
        found.sort(key=lambda item: item.place)
        empty = np.array([item.place for item in found if not len(item.part)], np.int64)
        if len(empty) and not skip_empty:
            raise InvalidRequest(f"item {empty[0]}: {EMPTY}")
        full = [item for item in found if len(item.part)]
        rows = [item.rows for item in full if item.rows is not None]
        return ItemValues(
            tuple(item.part for item in full),
            np.array([item.place for item in full], np.int64),
            np.array([item.place for item in full if item.cut], np.int64),
            empty,
            np.concatenate(rows) if rows else None,
        )

    def _texts(self, columns: ItemColumns, truncation: Truncation) -> "Iterator[_Item]":
        if columns.texts is None:
            return
        cleaned = [self._markers.cleaned(text) for text in columns.texts.values]
        texts, empty = without_blanks(Column(cleaned, columns.texts.places))
        for place in empty.tolist():
            yield _Item(place, "")
        places = texts.places.tolist()
        fitted = self._fitted(texts.values, truncation, lambda index: f"item {places[index]}")
        for place, (text, cut) in zip(places, fitted, strict=True):
            yield _Item(place, text, cut)

    def _fitted(
        self, texts: Sequence[str], truncation: Truncation, where: Callable[[int], str]
    ) -> list[tuple[str, bool]]:
        """Cuts what is longer than an item may be, and says what was; what has no token is ""."""
        most = self._limits.max_item_tokens
        read = starts_of(self._tokenizer, texts, [most] * len(texts))
        fitted = list[tuple[str, bool]]()
        for place, length in enumerate(self._tokenizer.encode_ragged(read).lengths.tolist()):
            if length > most and truncation == "error":
                raise LimitExceeded(_too_long(where(place), length, most))
            if length > most:
                fitted.append((_first_tokens(self._tokenizer, read[place], most), True))
            else:
                fitted.append((texts[place] if length else "", False))
        return fitted

    def _ids(self, columns: ItemColumns, truncation: Truncation) -> "Iterator[_Item]":
        if columns.token_ids is None:
            return
        most = self._limits.max_item_tokens
        runs = checked_columns(columns.token_ids.values, self._vocab_size, columns.token_ids.places)
        for index, place in enumerate(columns.token_ids.places.tolist()):
            ids = runs.run(index)
            self._markers.refuse(ids, f"item {place}")
            if len(ids) > most and truncation == "error":
                raise LimitExceeded(_too_long(f"item {place}", len(ids), most))
            yield _Item(place, ids[:most], len(ids) > most)

    def _embedded(self, column: Column[Embeddings] | None) -> "Iterator[_Item]":
        if column is None or not len(column.places):
            return
        form = self._form(int(column.places[0]))
        rows = checked_rows(column.values, column.places, form.tokens, form.hidden_size)
        ids = np.full(form.tokens, EMBEDDED, np.int64)
        for index, place in enumerate(column.places.tolist()):
            yield _Item(place, ids, rows=rows[index * form.tokens : (index + 1) * form.tokens])

    def _form(self, place: int) -> Embedding:
        if self._embedding is None:
            raise InvalidRequest(
                f"item {place}: the bundle takes no embedding tokens: give text or token ids"
            )
        return self._embedding

    def _only_field(self) -> str:
        if len(self._fields) != 1:
            way_out = "give each by name, as text" if self._fields else 'give ""'
            raise InvalidRequest(
                f"prefix: token ids, but the prompt has {fields_told(self._fields)}: {way_out}"
            )
        return self._fields[0]

    def _field_ids(self, prefix: object) -> Ids:
        most = self._limits.max_prefix_tokens
        ids = checked_ids(prefix, self._vocab_size, "prefix")
        self._markers.refuse(ids, "prefix")
        if len(ids) > most:
            raise LimitExceeded(
                f"prefix: {len(ids)} token ids, max_prefix_tokens is {most}: token ids are never cut, give fewer"
            )
        return ids


@dataclass(frozen=True, slots=True)
class _Item:
    place: int
    part: Part
    cut: bool = False
    rows: EmbeddingRows | None = None


def _first_tokens(tokenizer: Tokenizer, text: str, most: int) -> str:
    """Keeps the characters of the first `most` tokens that are whole."""
    starts = tokenizer.encode_spans([text])[0].starts
    return text[: int(starts[most])]


def _too_long(where: str, tokens: int, most: int) -> str:
    return f"{where}: {tokens_told(tokens, most)}, max_item_tokens is {most}: {WAY_OUT}"
