"""`PromptEncoder`: a request's prefix and items as runs of token ids, by the bundle's prompt.

Owns tokenization, templates, limits and the checks of what callers pass. Each segment is tokenized on its own
and the ids are joined: a prefix has the same ids whatever item follows, so its KV can be reused.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, get_args

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import check_prefix, checked_items, checked_text, is_embedding, item_form
from rankport.protos.errors import BundleError, InvalidRequest, LimitExceeded
from rankport.protos.types import Prefix, Truncation
from rankport.runtime.backends.contract import EMBEDDED, Resident, TokenRun
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Embedding, ManifestDraft
from rankport.runtime.prompt.checks import checked_ids, checked_stack
from rankport.runtime.prompt.template import Ids, PromptTemplate, item_template, prefix_template
from rankport.runtime.prompt.tokenizer import Tokenizer

ItemInput = str | Sequence[int] | NDArray[np.floating] | NDArray[np.integer] | Resident
"""An item whose tokens are known: text, token ids, or embedding tokens [k, hidden], here or in device memory."""


@dataclass(frozen=True, slots=True)
class EncodedRun:
    """A prefix or an item, ready for the engine."""

    run: TokenRun
    truncated: bool  # some of its text was cut to a limit


class PromptEncoder:
    """Immutable once built: safe to use from several threads at once."""

    def __init__(self, manifest: ManifestDraft, tokenizer: Tokenizer | None) -> None:
        """Tokenizes the prompt's literal segments.

        Raises:
            BundleError: the prompt names tokens that tokenizer or model lack, or its literals exceed a limit.
        """
        self.fields = manifest.prompt.fields
        self._tokenizer = tokenizer
        self._vocab_size = manifest.shape.vocab_size
        self._prefix = prefix_template(manifest, tokenizer)
        self._item = item_template(manifest, tokenizer)
        # An item encoder's `embedding` is what it makes, not what it takes.
        self._embedding = manifest.embedding if manifest.kind == "ranker" else None
        self._embedded_ids = None if self._embedding is None else _embedded_ids(self._item, self._embedding)

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Self:
        """The encoder of an opened bundle. Raises `BundleError` if its tokenizer and prompt do not fit."""
        name = bundle.manifest.tokenizer
        tokenizer = None if name is None else Tokenizer.from_file(bundle.file(name))
        return cls(bundle.manifest, tokenizer)

    def encode_prefix(self, prefix: Prefix, truncation: Truncation = "error") -> EncodedRun:
        """The prefix of a request; it may be empty.

        A str fills the prompt's only field, a mapping gives exactly its fields; token ids are the whole
        prefix, taken verbatim and never cut.

        Raises:
            InvalidRequest: fields are missing or unknown, or a value is malformed.
            LimitExceeded: a field or the whole is too long and `truncation` is "error".
        """
        _check_truncation(truncation)
        check_prefix(prefix)
        if not isinstance(prefix, str | Mapping):
            return EncodedRun(TokenRun(self._whole_prefix(prefix)), truncated=False)
        texts = self._field_texts(prefix)
        values = self._tokenize(texts, [f"prefix field {name!r}" for name in self.fields])
        ids, truncated = self._prefix.fill(values, truncation, "prefix")
        return EncodedRun(TokenRun(ids), truncated)

    def encode_items(self, items: Iterable[ItemInput], truncation: Truncation = "error") -> list[EncodedRun]:
        """One run an item, in order; all texts are tokenized in one batch. [items]

        Text, token ids or embedding tokens fill the item segment; the other segments are put around them.

        Raises:
            InvalidRequest: an item is malformed or has no token; the message has its index.
            LimitExceeded: an item is too long and `truncation` is "error".
        """
        _check_truncation(truncation)
        items = checked_items(items)
        runs = self._embedded_runs(items) | self._resident_runs(items)
        texts = {
            index: checked_text(item, f"item {index}")
            for index, item in enumerate(items)
            if isinstance(item, str)
        }
        tokenized = self._tokenize(list(texts.values()), [f"item {index}" for index in texts])
        ids = dict(zip(texts, tokenized, strict=True))
        return [
            runs[index] if index in runs else self._item_run(item, ids.get(index), truncation, index)
            for index, item in enumerate(items)
        ]

    def _item_run(
        self, item: ItemInput, tokenized: Ids | None, truncation: Truncation, index: int
    ) -> EncodedRun:
        where = f"item {index}"
        if tokenized is None:
            item_form(item, where)  # refuses what is no item at all
            tokenized = checked_ids(item, self._vocab_size, where)
        ids, truncated = self._item.fill([tokenized], truncation, where)
        if not len(ids):
            raise InvalidRequest(f"{where}: has no token: leave it out, or give it text")
        return EncodedRun(TokenRun(ids), truncated)

    def _embedded_runs(self, items: Sequence[ItemInput]) -> dict[int, EncodedRun]:
        """Those that are embedding tokens, by index, all at once: a check an item would cost more than a pass."""
        found = {index: item for index, item in enumerate(items) if is_embedding(item)}
        if not found:
            return {}
        embedding, ids = self._embedded(next(iter(found)))
        stacked = checked_stack(found, embedding.tokens, embedding.hidden_size)
        return {
            index: EncodedRun(TokenRun(ids, rows), truncated=False)
            for index, rows in zip(found, stacked, strict=True)
        }

    def _resident_runs(self, items: Sequence[ItemInput]) -> dict[int, EncodedRun]:
        """Those whose tokens are in device memory: they need nothing but the ids around them."""
        found = {index: item for index, item in enumerate(items) if isinstance(item, Resident)}
        if not found:
            return {}
        _, ids = self._embedded(next(iter(found)))
        return {index: EncodedRun(TokenRun(ids, None, item), False) for index, item in found.items()}

    def _embedded(self, index: int) -> tuple[Embedding, Ids]:
        """The form of embedding tokens, and the ids of an item of them."""
        if self._embedding is None or self._embedded_ids is None:
            raise InvalidRequest(
                f"item {index}: the bundle takes no embedding tokens: give text or token ids"
            )
        return self._embedding, self._embedded_ids

    def _whole_prefix(self, prefix: object) -> Ids:
        ids = checked_ids(prefix, self._vocab_size, "prefix")
        if len(ids) > self._prefix.limit:
            raise LimitExceeded(
                f"prefix: {len(ids)} token ids, max_prefix_tokens is {self._prefix.limit}: "
                "token ids are never cut, give fewer"
            )
        return ids

    def _field_texts(self, prefix: str | Mapping[str, str]) -> list[str]:
        if isinstance(prefix, str):
            if len(self.fields) != 1:
                raise InvalidRequest(
                    f"prefix: one str, but the prompt has the fields {list(self.fields)}: "
                    "give each by name (--field NAME=TEXT)"
                )
            prefix = {self.fields[0]: prefix}
        missing = [name for name in self.fields if name not in prefix]
        unknown = [name for name in prefix if name not in self.fields]
        if missing or unknown:
            raise InvalidRequest(
                f"prefix: fields missing {missing}, unknown {unknown}: the prompt has {list(self.fields)}"
            )
        return [checked_text(prefix[name], f"prefix field {name!r}") for name in self.fields]

    def _tokenize(self, texts: Sequence[str], wheres: Sequence[str]) -> list[Ids]:
        """[texts] of [tokens]; `wheres` names each text in messages."""
        if not texts:
            return []
        if self._tokenizer is None:
            raise InvalidRequest(f"{wheres[0]}: is text, but the bundle has no tokenizer: give token ids")
        values = self._tokenizer.encode_batch(texts)
        for ids, where in zip(values, wheres, strict=True):
            # A tokenizer may know more tokens than the model has rows (a pruned vocabulary, say).
            if len(ids) and ids.max() >= self._vocab_size:
                token = int(ids.max())
                raise InvalidRequest(
                    f"{where}: holds token {token}, {self._tokenizer.decode([token])!r}, outside the model's "
                    f"vocabulary 0 to {self._vocab_size - 1}: leave it out"
                )
        return values


def _embedded_ids(item: PromptTemplate, embedding: Embedding) -> Ids:
    """The ids of every item of embedding tokens: they differ in their rows only. Shared, so read-only."""
    if embedding.tokens > item.room:
        raise BundleError(
            f"embedding.tokens: {embedding.tokens} and the prompt's {item.limit - item.room} literal tokens "
            f"exceed {item.limit_name} {item.limit}"
        )
    ids = item.join([np.full(embedding.tokens, EMBEDDED, np.int64)])
    ids.setflags(write=False)
    return ids


def _check_truncation(truncation: object) -> None:
    if truncation not in get_args(Truncation):
        raise InvalidRequest(f"truncation {truncation!r}: must be one of {list(get_args(Truncation))}")
