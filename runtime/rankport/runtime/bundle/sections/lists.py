"""The section `lists` of a manifest: the prompt that holds the items of a block, and what is read of it."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rankport.runtime.bundle.strict import Strict

Count = Annotated[int, Field(gt=0)]
ListMark = Literal["item", "query"]
Join = Literal["independent", "mean-query", "refuse", "first"]
ListReadOut = Literal["cosine", "logit"]


class ListSegment(Strict):
    """Piece of a list's prompt; exactly one of these is set."""

    text: str | None = None  # literal text
    special: list[str] | None = None  # tokens by their name in the vocabulary
    field: str | None = None  # a field of the request's prefix
    count: Literal[True] | None = None  # how many items the block has, in digits
    number: Annotated[int, Field(ge=0)] | None = (
        None  # the item's number in its block, in digits, from this one on
    )
    item: Literal[True] | None = None  # where the item's text, ids or embedding tokens go
    mark: ListMark | None = None  # the marker token: the model's state there speaks for the item or the query

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            known = ", ".join(type(self).model_fields)
            raise ValueError(f"needs exactly one of {known}, has {' and '.join(given) or 'none'}")
        if getattr(self, given[0]) in ("", []):
            raise ValueError(f"{given[0]} is empty: leave the segment out or fill it")
        return self


class ListTemplate(Strict):
    """Prompt of a block: what stands before its items, around each, between two, and behind all."""

    head: list[ListSegment] = Field(default_factory=list)
    item: list[ListSegment]
    between: str = ""
    tail: list[ListSegment] = Field(default_factory=list)
    # Of a model that reads each item by itself as well: the text whose last state is the item's vector. The last state
    # of the prompt is then the query's, and nothing is read at markers.
    alone: list[ListSegment] = Field(default_factory=list)

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        items = [index for index, segment in enumerate(self.item) if segment.item]
        marks = [index for index, segment in enumerate(self.item) if segment.mark == "item"]
        if self.alone:
            self._check_alone(len(items))
        elif len(items) != 1 or len(marks) != 1 or marks[0] < items[0]:
            raise ValueError(
                f"item needs one segment item = true and behind it one mark = item, has {len(items)} and {len(marks)}"
            )
        for part, segments in (("head", self.head), ("item", self.item), ("tail", self.tail)):
            for index, segment in enumerate(segments):
                problem = _misplaced(segment, of_item=part == "item")
                if problem:
                    raise ValueError(f"{part}[{index}]: {problem}")
        if len(self._query_marks) > 1:
            raise ValueError("mark = query stands in one place, in head or tail")
        return self

    def _check_alone(self, items: int) -> None:
        if any(segment.mark is not None for segment in (*self.head, *self.item, *self.tail, *self.alone)):
            raise ValueError("alone: items are read by themselves, and no segment is a mark: leave marks out")
        for index, segment in enumerate(self.alone):
            if segment.text is None and segment.special is None and not segment.item:
                raise ValueError(f"alone[{index}]: an item by itself has text, special and item alone")
        count = sum(segment.item is not None for segment in self.alone)
        if items != 1 or count != 1:
            raise ValueError(f"item and alone need one segment item = true each, have {items} and {count}")

    @property
    def _query_marks(self) -> list[ListSegment]:
        return [segment for segment in (*self.head, *self.tail) if segment.mark == "query"]

    @property
    def marks_query(self) -> bool:
        """True where a marker speaks for the query."""
        return bool(self._query_marks)

    @property
    def query_first(self) -> bool:
        """True where the query's marker stands before the items."""
        return any(segment.mark == "query" for segment in self.head)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the prefix's fields, each once, in order."""
        named = [segment.field for segment in (*self.head, *self.tail) if segment.field is not None]
        return tuple(dict.fromkeys(named))


def _misplaced(segment: ListSegment, *, of_item: bool) -> str:
    """Says what is wrong with a segment's place; empty where nothing is."""
    for name in ("field", "count"):
        if of_item and getattr(segment, name) is not None:
            return f"{name} belongs to head or tail"
    if of_item:
        return "mark = query belongs to head or tail" if segment.mark == "query" else ""
    for name in ("item", "number"):
        if getattr(segment, name) is not None:
            return f"{name} belongs to the item's segments"
    return "mark = item belongs to the item's segments" if segment.mark == "item" else ""


def check_joined(template: ListTemplate, read_out: ListReadOut, join: Join) -> None:
    """Raises ValueError where read-out or joining do not go with what a template reads."""
    if template.alone:
        if read_out != "cosine" or join != "first":
            raise ValueError(
                f"read_out is {read_out}, join is {join}: items that are read alone are compared by cosine with the "
                "one prompt of the first: must be cosine and first"
            )
        return
    if join == "first":
        raise ValueError("join is first: only items that are read alone have a vector outside the prompt")
    if (read_out == "cosine") != template.marks_query:
        raise ValueError(f"read_out is {read_out}: a cosine, and it alone, has a marker of the query")


class Marker(Strict):
    """Token at which the model's state is read."""

    token: str  # by its name in the vocabulary
    id: Annotated[int, Field(ge=0)]


class Lists(ListTemplate):
    """Contents of the section: the template, its markers, the size of a block, and how blocks are joined."""

    item_marker: Marker | None = None
    query_marker: Marker | None = None
    width: Count  # of what the graph gives at a marker
    read_out: ListReadOut
    max_items: Count  # of a block
    max_tokens: Count  # of a block, its prompt included
    join: Join

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.marks_query != (self.query_marker is not None):
            raise ValueError("query_marker goes with a segment mark = query")
        if (self.item_marker is None) != bool(self.alone):
            raise ValueError("item_marker goes with a segment mark = item, and alone has none")
        check_joined(self, self.read_out, self.join)
        if self.read_out == "logit" and self.width != 1:
            raise ValueError(f"width is {self.width}: a logit is 1 wide")
        if self.join == "mean-query" and self.read_out != "cosine":
            raise ValueError("join is mean-query: a logit has no query that could be averaged")
        return self

    @property
    def marker_ids(self) -> tuple[int, ...]:
        """Ids of the markers: each occurrence in a prompt is one that the template put there."""
        own = (self.item_marker, self.query_marker)
        return tuple(dict.fromkeys(marker.id for marker in own if marker is not None))
