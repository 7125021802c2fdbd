"""The section `lists`: what a template may be, and what of the section contradicts itself."""

from typing import Any

import pytest
from pydantic import ValidationError

from rankport.runtime.bundle.sections.lists import ListSegment, ListTemplate
from support.lists.drafts import NUMBERED, alone_lists, lists_of

ITEM_PART: list[dict[str, Any]] = [{"item": True}, {"mark": "item"}]


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ({}, "needs exactly one of text, special, field, count, number, item, mark, has none"),
        ({"text": "a", "field": "q"}, "has text and field"),
        ({"text": ""}, "text is empty"),
        ({"special": []}, "special is empty"),
        ({"mark": "prefix"}, "Input should be 'item' or 'query'"),
        ({"count": False}, "Input should be True"),
    ],
)
def test_a_segment_is_one_thing(segment: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ListSegment.model_validate(segment)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            {"item": [{"mark": "item"}, {"item": True}]},
            "one segment item = true and behind it one mark = item",
        ),
        ({"item": [{"item": True}]}, "has 1 and 0"),
        ({"item": [*ITEM_PART, {"field": "q"}]}, r"item\[2\]: field belongs to head or tail"),
        ({"item": [*ITEM_PART, {"count": True}]}, r"item\[2\]: count belongs to head or tail"),
        ({"item": [*ITEM_PART, {"mark": "query"}]}, r"item\[2\]: mark = query belongs to head or tail"),
        ({"item": ITEM_PART, "head": [{"number": 1}]}, r"head\[0\]: number belongs to the item's segments"),
        ({"item": ITEM_PART, "tail": [{"mark": "item"}]}, r"tail\[0\]: mark = item belongs to the item's"),
        (
            {"item": ITEM_PART, "head": [{"mark": "query"}], "tail": [{"mark": "query"}]},
            "mark = query stands in one place",
        ),
    ],
)
def test_a_segment_has_its_place(template: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ListTemplate.model_validate(template)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_marker": None}, "query_marker goes with a segment mark = query"),
        ({"read_out": "logit"}, "read_out is logit: a cosine, and it alone, has a marker of the query"),
        ({"tail": [], "query_marker": None}, "read_out is cosine"),
        (
            {"tail": [], "query_marker": None, "read_out": "logit", "width": 2},
            "width is 2: a logit is 1 wide",
        ),
        (
            {"tail": [], "query_marker": None, "read_out": "logit", "width": 1, "join": "mean-query"},
            "join is mean-query: a logit has no query",
        ),
    ],
)
def test_a_section_does_not_contradict_itself(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        lists_of(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"join": "independent"}, "read_out is cosine, join is independent: items that are read alone"),
        ({"read_out": "logit", "width": 1}, "read_out is logit, join is first"),
        ({"item_marker": {"token": "a", "id": 1}}, "item_marker goes with a segment mark = item"),
        ({"query_marker": {"token": "a", "id": 1}}, "query_marker goes with a segment mark = query"),
        ({"alone": [{"text": "a"}]}, "one segment item = true each, have 1 and 0"),
        ({"item": [{"number": 1}]}, "one segment item = true each, have 0 and 1"),
        (
            {"alone": [{"item": True}, {"number": 1}]},
            r"alone\[1\]: an item by itself has text, special and item",
        ),
        ({"tail": [{"mark": "query"}]}, "alone: items are read by themselves, and no segment is a mark"),
        ({"alone": []}, "one mark = item, has 1 and 0"),
    ],
)
def test_items_that_are_read_alone_have_no_marks(changes: dict[str, Any], message: str) -> None:
    assert alone_lists().marker_ids == ()
    with pytest.raises(ValidationError, match=message):
        alone_lists(**changes)


def test_the_prompt_of_the_first_is_of_items_that_are_read_alone() -> None:
    with pytest.raises(ValidationError, match="join is first: only items that are read alone"):
        lists_of(join="first")


def test_fields_are_named_once_in_order() -> None:
    head = [{"field": "city"}, *NUMBERED["head"]]
    assert lists_of(head=head).fields == ("city", "query")


def test_the_query_may_stand_first() -> None:
    assert not lists_of().query_first
    assert lists_of(head=[*NUMBERED["head"], {"mark": "query"}], tail=[]).query_first
