"""`TextTemplate`: the text of an item out of several columns, with a limit for each.

    {title}. {description:200}      the title, and at most 200 characters of the description
    {{literal braces}}              {literal braces}

A column that is null or blank gives nothing. White space at the ends of the whole is left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import Formatter

from rankport.protos.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class TextTemplate:
    """Template that was checked. Make it with `parse`."""

    # Literal, then a column ("" for none), its limit in characters.
    parts: tuple[tuple[str, str, int | None], ...]

    @classmethod
    def parse(cls, template: str) -> "TextTemplate":
        """Reads a template. Raises `InvalidRequest` where it has no column, or something else in its braces."""
        try:
            parsed = list(Formatter().parse(template))
        except ValueError as error:
            raise InvalidRequest(
                f"text template {template!r}: {error}; write {{{{ or }}}} for a brace"
            ) from None
        parts = []
        for literal, name, limit, conversion in parsed:
            if conversion is not None or (name is not None and not name):
                raise InvalidRequest(
                    f"text template {template!r}: give columns as {{name}} or {{name:LIMIT}}"
                )
            parts.append((literal, name or "", _limit(template, limit)))
        if not any(name for _, name, _ in parts):
            raise InvalidRequest(f"text template {template!r} has no column: give at least one, as {{name}}")
        return cls(tuple(parts))

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that it reads, each once."""
        return tuple(dict.fromkeys(name for _, name, _ in self.parts if name))

    def render(self, text_of: Callable[[str], str]) -> str:
        """Makes the text of what a column's name gives; "" where all columns are blank."""
        values = {name: text_of(name) for name in self.columns}
        if all(not value or value.isspace() for value in values.values()):
            return ""
        return "".join(literal + values.get(name, "")[:limit] for literal, name, limit in self.parts).strip()


def joined(columns: Sequence[str], separator: str, text_of: Callable[[str], str]) -> str:
    """Joins the columns that are not blank."""
    parts = [text_of(name) for name in columns]
    return separator.join(part for part in parts if part and not part.isspace())


def _limit(template: str, limit: str | None) -> int | None:
    if not limit:
        return None
    if not limit.isascii() or not limit.isdigit() or int(limit) < 1:
        raise InvalidRequest(
            f"text template {template!r}: limit {limit!r} is no number of characters from 1 on"
        )
    return int(limit)
