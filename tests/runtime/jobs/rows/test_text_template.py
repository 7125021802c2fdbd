"""`TextTemplate`: texts out of several columns."""

import pytest

from rankport.protos.errors import InvalidRequest
from rankport.runtime.jobs.rows.text_template import TextTemplate

ROW = {"title": "Nurse", "description": "Cares for people", "blank": " ", "null": ""}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{title}. {description:5}", "Nurse. Cares"),
        ("{title}{title:1}", "NurseN"),
        ("{{{title}}} {blank}", "{Nurse}"),
        ("{null}: {description}", ": Cares for people"),
        ("{blank}{null}", ""),
        ("title: {null}", ""),
    ],
)
def test_a_text_is_what_the_template_says(template: str, text: str) -> None:
    assert TextTemplate.parse(template).render(ROW.__getitem__) == text


def test_columns_are_told_once() -> None:
    assert TextTemplate.parse("{b} {a} {b:3}").columns == ("b", "a")


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("no column", "has no column: give at least one"),
        ("{}", "give columns as {name}"),
        ("{title!r}", "give columns as {name}"),
        ("{title", "expected '}'"),
        ("title}", "Single '}'"),
        ("{title:x}", "limit 'x' is no number of characters"),
        ("{title:0}", "limit '0' is no number of characters"),
    ],
)
def test_what_is_no_template_is_refused_with_the_reason(template: str, error: str) -> None:
    with pytest.raises(InvalidRequest, match=error):
        TextTemplate.parse(template)
