"""Segments of the prompt, by which a request becomes token ids."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rankport.protos.wording import repeated
from rankport.runtime.bundle.strict import Strict


class Segment(Strict):
    """Piece of the prompt; exactly one of `text`, `special`, `field`, `item` is set."""

    text: str | None = None  # literal text
    special: list[str] | None = None  # tokens by their name in the vocabulary
    field: str | None = None  # a field of the request; in the item's segments, one that each item reads
    item: bool | None = None  # where the item's text, ids or embedding tokens go
    max_tokens: Annotated[int, Field(gt=0)] | None = None  # of `field` or `item`
    keep: Literal["start", "end"] = "start"  # which end survives truncation
    joined: bool = False  # one text for the tokenizer with the segment before it

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in _SEGMENT_SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"needs exactly one of {', '.join(_SEGMENT_SOURCES)}, has {' and '.join(given) or 'none'}"
            )
        if not getattr(self, given[0]) or (self.special is not None and "" in self.special):
            raise ValueError(f"{given[0]} is {getattr(self, given[0])!r}: leave the segment out or fill it")
        if self.is_literal and not self.model_fields_set.isdisjoint({"max_tokens", "keep"}):
            raise ValueError(f"max_tokens and keep go with field or item: {given[0]} is never cut")
        return self

    @property
    def is_literal(self) -> bool:
        """True where every request has the same tokens here."""
        return self.text is not None or self.special is not None


_SEGMENT_SOURCES = ("text", "special", "field", "item")


class Prompt(Strict):
    """Segments of the prefix and of an item, by which a request becomes token ids."""

    prefix: list[Segment]
    item: list[Segment]

    @model_validator(mode="after")
    def _one_item_and_distinct_fields(self) -> Self:
        items = sum(segment.item is not None for segment in self.item)
        if items != 1:
            raise ValueError(f"item needs exactly one segment with item = true, has {items}")
        for index, segment in enumerate(self.prefix):
            if segment.item is not None:
                raise ValueError(f"prefix[{index}]: item = true belongs to the item's segments")
        if twice := repeated(self.fields):
            raise ValueError(f"field {twice[0]!r} is used twice")
        return self

    @model_validator(mode="after")
    def _joins(self) -> Self:
        segments = [("prefix", index, segment) for index, segment in enumerate(self.prefix)]
        segments += [("item", index, segment) for index, segment in enumerate(self.item)]
        before: Segment | None = None
        for part, index, segment in segments:
            problem = _join_problem(before, segment, edge=part == "item" and index == 0)
            if problem:
                raise ValueError(f"{part}[{index}]: joined = true {problem}")
            before = segment
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """Names that a request's prefix gives: those in the prefix's segments, then those in the item's."""
        return tuple(segment.field for segment in [*self.prefix, *self.item] if segment.field is not None)

    @property
    def item_fields(self) -> tuple[str, ...]:
        """Names of the fields in the item's segments, of which items have the tokens with their own."""
        return tuple(segment.field for segment in self.item if segment.field is not None)


def _join_problem(before: Segment | None, segment: Segment, *, edge: bool) -> str:
    """Says what is wrong with a segment's `joined`; empty where nothing is. `edge`: from the prefix to the item."""
    if not segment.joined:
        return ""
    if before is None:
        return "has no segment before it: leave it out"
    if segment.special is not None or before.special is not None:
        return "beside special: a special token is a token of its own, leave it out"
    if edge and before.field is not None:
        return (
            f"after the field {before.field!r} at the end of the prefix: the prefix's tokens would depend on the item; "
            "end the prefix in a text segment, or leave it out"
        )
    return ""
