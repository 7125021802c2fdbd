"""`ListParts`: the prompt of a block of items as literal text, token ids and places, and how a block is put together.

Works on texts and ids alike: a run of texts between two markers or special tokens is one text for the tokenizer, as it
is for an owner who tokenizes the whole prompt at once. Where values come from is `list_prompt`'s business.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BundleError
from rankport.runtime.bundle.sections.lists import Lists, ListSegment
from rankport.runtime.prompt.tokenizer import Tokenizer

Ids = NDArray[np.int64]
Part = str | Ids
"""A text, or token ids as they are."""


@dataclass(frozen=True, slots=True)
class ListParts:
    """Segments of a bundle, its special tokens and markers as ids. Make it with `of`."""

    lists: Lists
    specials: Mapping[str, int]

    @classmethod
    def of(cls, lists: Lists, tokenizer: Tokenizer, vocab_size: int) -> "ListParts":
        """Looks the tokens up. Raises `BundleError` for one that tokenizer or model lack, or a marker of another id."""
        named = [name for segment in _segments(lists) for name in segment.special or ()]
        specials = {name: _known(tokenizer, name, vocab_size) for name in named}
        for place, marker in (("item_marker", lists.item_marker), ("query_marker", lists.query_marker)):
            if marker is not None and _known(tokenizer, marker.token, vocab_size) != marker.id:
                raise BundleError(
                    f"lists.{place}: {marker.token!r} is token {tokenizer.token_id(marker.token)} of the tokenizer, "
                    f"not {marker.id}"
                )
        return cls(lists, specials)

    def block(self, fields: Mapping[str, Part], items: Sequence[Part]) -> list[Part]:
        """Puts the prompt of a block together, neighbouring texts joined; each marker is a part of its own."""
        return list(_merged(self._pieces(fields, items)))

    def alone(self, item: Part) -> list[Part]:
        """Puts the text of an item by itself together, of a model that reads it so."""
        return list(_merged(self._item_piece(segment, item, 0) for segment in self.lists.alone))

    def _pieces(self, fields: Mapping[str, Part], items: Sequence[Part]) -> Iterator[Part]:
        for segment in self.lists.head:
            yield self._piece(segment, fields, len(items))
        for place, item in enumerate(items):
            if place:
                yield self.lists.between
            for segment in self.lists.item:
                yield self._item_piece(segment, item, place)
        for segment in self.lists.tail:
            yield self._piece(segment, fields, len(items))

    def _item_piece(self, segment: ListSegment, item: Part, place: int) -> Part:
        if segment.item:
            return item
        if segment.number is not None:
            return str(segment.number + place)
        return self._piece(segment, {}, 0)

    def _piece(self, segment: ListSegment, fields: Mapping[str, Part], count: int) -> Part:
        if segment.text is not None:
            return segment.text
        if segment.special is not None:
            return np.array([self.specials[name] for name in segment.special], np.int64)
        if segment.field is not None:
            return fields[segment.field]
        if segment.count:
            return str(count)
        marker = self.lists.item_marker if segment.mark == "item" else self.lists.query_marker
        assert marker is not None
        return np.array([marker.id], np.int64)


def _segments(lists: Lists) -> tuple[ListSegment, ...]:
    return (*lists.head, *lists.item, *lists.tail, *lists.alone)


def _known(tokenizer: Tokenizer, name: str, vocab_size: int) -> int:
    token = tokenizer.token_id(name)
    if token is None:
        raise BundleError(f"lists: token {name!r} is not in the tokenizer's vocabulary")
    if token >= vocab_size:
        raise BundleError(f"lists: token {name!r} is {token}, outside the model's vocabulary of {vocab_size}")
    return token


def _merged(pieces: Iterator[Part]) -> Iterator[Part]:
    """Joins texts that follow each other."""
    text = ""
    for piece in pieces:
        if isinstance(piece, str):
            text += piece
            continue
        if text:
            yield text
        text = ""
        yield piece
    if text:
        yield text
