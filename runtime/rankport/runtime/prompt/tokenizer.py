"""`Tokenizer`: `tokenizer.json` as a plain function from text to ids.

Owns what must not depend on how the file was saved: no padding, no truncation, nothing added around a text.
Text never becomes a *special* token: no request can smuggle `[SEP]` or `<|im_start|>` in by spelling it.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import models

from rankport.protos.columns import RaggedIds
from rankport.protos.errors import BundleError, InvalidRequest
from rankport.protos.reasons import reason_of
from rankport.runtime.prompt.spelled_tokens import SpelledTokens

Encode = Callable[[tokenizers.Tokenizer, Sequence[Any]], list[tokenizers.Encoding]]
"""A call of the library that encodes texts, or texts as words."""
_SHOWN = 40  # characters of a text, in messages


_PARALLELISM = "TOKENIZERS_PARALLELISM"
_forking: set[int] = set()  # threads that set it for a fork


def _say_one_thread() -> None:
    """Says before a fork that the child is to use one thread: older releases of the library warn of it at the fork."""
    if Tokenizer.used_in_this_process and _PARALLELISM not in os.environ:
        os.environ[_PARALLELISM] = "false"
        _forking.add(threading.get_ident())


def _use_threads_again() -> None:
    if threading.get_ident() in _forking:
        _forking.discard(threading.get_ident())
        os.environ.pop(_PARALLELISM, None)


def _tokenize_in_one_thread() -> None:
    """Keeps a forked child off the library's pool, whose threads a fork does not copy: it would wait for ever.

    The library does so itself unless the variable is set, as it is where somebody asked for several threads.
    """
    if Tokenizer.used_in_this_process:
        os.environ[_PARALLELISM] = "false"


os.register_at_fork(
    before=_say_one_thread, after_in_parent=_use_threads_again, after_in_child=_tokenize_in_one_thread
)


@dataclass(frozen=True, slots=True)
class SpannedTokens:
    """Tokens of a text and the characters that each was made of."""

    ids: NDArray[np.int64]  # [tokens]
    starts: NDArray[np.int64]  # [tokens] in characters of the text, ascending
    ends: NDArray[np.int64]  # [tokens]

    def part(self, first: int, last: int) -> "SpannedTokens":
        """Takes the tokens from `first` to before `last`."""
        return SpannedTokens(self.ids[first:last], self.starts[first:last], self.ends[first:last])


@dataclass(frozen=True, slots=True)
class PlacedTokens:
    """Tokens of several texts as columns, with their characters and words."""

    ids: RaggedIds  # [texts] runs
    starts: NDArray[np.int64]  # [tokens] in characters of the text, or of the given word
    ends: NDArray[np.int64]  # [tokens]
    words: NDArray[np.int64]  # [tokens] word of each within its text, as the tokenizer splits; -1: of none

    def take(self, tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> "PlacedTokens":
        """Takes some tokens, and says how many are of each text. [texts]"""
        ids = RaggedIds.of_lengths(self.ids.ids[tokens], lengths)
        return PlacedTokens(ids, self.starts[tokens], self.ends[tokens], self.words[tokens])


class Tokenizer:
    """Wraps a `tokenizers.Tokenizer`; immutable, safe to use from several threads at once."""

    used_in_this_process: ClassVar[bool] = False

    def __init__(self, inner: tokenizers.Tokenizer, *, match_special: bool = False) -> None:
        """Takes `inner` over: its truncation, padding, framing, dropout and special-token matching are reset."""
        Tokenizer.used_in_this_process = True
        without_dropout(inner).no_truncation()
        inner.no_padding()
        inner.post_processor = None  # it adds nothing here, but may trim the places of tokens
        inner.encode_special_tokens = not match_special
        self._inner = inner
        self._spelled = None if match_special else SpelledTokens(inner)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a `tokenizer.json`; raises `BundleError` naming the file if it is none."""
        try:
            inner = tokenizers.Tokenizer.from_file(str(Path(path)))
        except Exception as error:  # the library raises bare Exception for a malformed or missing file
            raise BundleError(f"{path}: not a readable tokenizer.json: {reason_of(error)}") from error
        return cls(inner)

    def matching_special(self) -> Self:
        """Returns a copy for which the text of a special token is that token, as in a template written by hand."""
        return type(self)(tokenizers.Tokenizer.from_str(self._inner.to_str()), match_special=True)

    def inside(self) -> Self:
        """Returns the tokenizer of a text that others stand before: some put a space before one that begins."""
        before = self._inner.pre_tokenizer
        # A pickle of it is its JSON: that of the whole takes a second of a large vocabulary.
        if before is None or not any(_spacing(json.loads(before.__getstate__()))):
            return self
        stated = json.loads(self._inner.to_str())
        for part in _spacing(stated["pre_tokenizer"]):
            part["prepend_scheme"] = "never"
        return type(self)(tokenizers.Tokenizer.from_str(json.dumps(stated)))

    def encode_ragged(self, texts: Sequence[str]) -> RaggedIds:
        """Encodes all texts in one call, nothing added. [texts] runs. Releases the interpreter lock."""
        return self._encoded(_without_places, list(texts))[1]

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Encodes each text, nothing added. [texts] of [tokens]"""
        runs = self.encode_ragged(texts)
        return [runs.run(index) for index in range(len(runs))]

    def encode_spans(self, texts: Sequence[str]) -> list[SpannedTokens]:
        """Encodes each text, nothing added, with the places of its tokens; slower than `encode_ragged`. [texts]"""
        encodings, runs = self._encoded(_with_places, list(texts))
        return [_spanned(encoding, runs.run(index)) for index, encoding in enumerate(encodings)]

    def encode_places(self, texts: Sequence[str]) -> PlacedTokens:
        """Encodes all texts in one call, nothing added, with the characters and words of their tokens. [texts] runs"""
        return _placed(*self._encoded(_with_places, list(texts)))

    def encode_word_places(self, texts: Sequence[Sequence[str]]) -> PlacedTokens:
        """Encodes texts of words, each word apart, as `encode_places`; characters are counted within a word."""
        return _placed(*self._encoded(_of_words, [list(words) for words in texts]))

    def _encoded(self, encode: Encode, texts: list[Any]) -> tuple[list[tokenizers.Encoding], RaggedIds]:
        """Encodes all texts in one call, those again that a special token was made in.

        Raises InvalidRequest for a text that has no tokens by a model without one for what is unknown.
        """
        try:
            encodings = encode(self._inner, texts)
        except Exception as error:
            if type(error) is Exception:  # the library's, which names no text; others are no fault of one
                self._refuse_unknown(encode, texts)
            raise
        runs = _ragged(encodings)
        again = [] if self._spelled is None else self._spelled.texts(runs)
        if self._spelled is None or not again:
            return encodings, runs
        apart = encode(self._spelled.apart, [texts[place] for place in again])
        for place, encoding in zip(again, apart, strict=True):
            encodings[place] = encoding
        return encodings, _ragged(encodings)

    def _refuse_unknown(self, encode: Encode, texts: list[Any]) -> None:
        """Raises InvalidRequest for the first of the texts that cannot be encoded by itself, if there is one."""
        for text in texts:
            try:
                encode(self._inner, [text])
            except Exception as error:
                raise InvalidRequest(
                    f"{str(text)[:_SHOWN]!r}: holds what the tokenizer has no token for, and it has none for what is "
                    f"unknown ({reason_of(error)}): leave that out, or give token ids"
                ) from error

    def text_of(self, ids: Sequence[int]) -> str:
        """Turns ids into text, without special tokens; incomplete characters become U+FFFD."""
        return self._inner.decode(list(ids), skip_special_tokens=True)

    def as_json(self) -> str:
        """Writes it as a `tokenizer.json`, without what was reset."""
        return self._inner.to_str()

    def token_id(self, name: str) -> int | None:
        """Returns the id of a token by its exact name in the vocabulary, or None."""
        return self._inner.token_to_id(name)

    def special_tokens(self) -> tuple[str, ...]:
        """Lists the names of tokens that text never becomes, in id order."""
        added = self._inner.get_added_tokens_decoder()
        return tuple(added[token].content for token in sorted(added) if added[token].special)

    @cached_property
    def swallows(self) -> Mapping[str, tuple[bool, bool]]:
        """Special tokens that take the white space before them with them, and that behind them."""
        added = self._inner.get_added_tokens_decoder().values()
        return {
            token.content: (token.lstrip, token.rstrip)
            for token in added
            if token.special and (token.lstrip or token.rstrip)
        }

    def vocabulary(self) -> tuple[str, ...]:
        """Lists all token names, unordered. Slow: for messages and export, not for requests."""
        return tuple(self._inner.get_vocab(with_added_tokens=True))

    @property
    def weighs_whole_words(self) -> bool:
        """True where a word's first tokens may depend on its end, however far that is."""
        return isinstance(self._inner.model, models.Unigram)

    @property
    def vocab_size(self) -> int:
        """Tokens in the vocabulary, the added ones included."""
        return self._inner.get_vocab_size(with_added_tokens=True)

    def decode(self, ids: Sequence[int] | NDArray[np.integer]) -> str:
        """Decodes token ids to text, special tokens included."""
        return self._inner.decode([int(token) for token in ids], skip_special_tokens=False)


def _spacing(stated: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Lists the parts of a pre-tokenizer that put a space before a text that begins."""
    if stated.get("prepend_scheme") == "first":
        yield stated
    for part in stated.get("pretokenizers", ()):
        yield from _spacing(part)


def without_dropout(inner: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Has a text be the same tokens each time: a file may say that merges are left out by chance, as in training."""
    if isinstance(inner.model, models.BPE):
        inner.model.dropout = None
    return inner


def _without_places(inner: tokenizers.Tokenizer, texts: Sequence[Any]) -> list[tokenizers.Encoding]:
    return inner.encode_batch_fast(texts, add_special_tokens=False)


def _with_places(inner: tokenizers.Tokenizer, texts: Sequence[Any]) -> list[tokenizers.Encoding]:
    return inner.encode_batch(texts, add_special_tokens=False)


def _of_words(inner: tokenizers.Tokenizer, texts: Sequence[Any]) -> list[tokenizers.Encoding]:
    return inner.encode_batch(texts, is_pretokenized=True, add_special_tokens=False)


def _ragged(encodings: Sequence[tokenizers.Encoding]) -> RaggedIds:
    lengths = np.fromiter(map(len, encodings), np.int64, len(encodings))
    ids = chain.from_iterable(encoding.ids for encoding in encodings)
    return RaggedIds.of_lengths(np.fromiter(ids, np.int64, int(lengths.sum())), lengths)


def _spanned(encoding: tokenizers.Encoding, ids: NDArray[np.int64]) -> SpannedTokens:
    places = np.array(encoding.offsets, np.int64).reshape(-1, 2)
    return SpannedTokens(ids, places[:, 0], places[:, 1])


def _placed(encodings: Sequence[tokenizers.Encoding], ids: RaggedIds) -> PlacedTokens:
    count = len(ids.ids)
    places = chain.from_iterable(chain.from_iterable(encoding.offsets for encoding in encodings))
    starts, ends = np.fromiter(places, np.int64, 2 * count).reshape(-1, 2).T
    words = chain.from_iterable(encoding.word_ids for encoding in encodings)
    numbers = np.fromiter((-1 if word is None else word for word in words), np.int64, count)
    return PlacedTokens(ids, starts, ends, numbers)
