"""Lines of a file of requests, and all that is wrong with them in one error."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from rankport.protos.errors import InvalidRequest, RankportError
from rankport.protos.files.json_text import json_of_text
from rankport.protos.reasons import reason_of
from rankport.protos.wording import counted

T = TypeVar("T")

SHOWN_LINES = 10
"""Bad lines that a message names; the rest are counted."""


@dataclass(slots=True)
class BadLines:
    """Collects what is wrong with lines, to raise it at once."""

    complaints: list[str] = field(default_factory=list)  # each opens with its place
    lines: int = 0  # read so far, good ones too

    def add(self, place: str, complaint: object) -> None:
        """Notes a complaint of the line at `place`."""
        self.complaints.append(f"{place}: {complaint}")

    def check(self, place: str, call: Callable[[], T]) -> T | None:
        """Gives what `call` returns; None, with a note, where it raises an error of ours."""
        try:
            return call()
        except RankportError as error:
            self.add(place, error)
            return None

    def raise_any(self) -> None:
        """Raises InvalidRequest with the first `SHOWN_LINES` complaints and the count of the rest, if there is one."""
        bad = len(self.complaints)
        if bad == 1:
            raise InvalidRequest(self.complaints[0])
        if bad:
            shown = [f"  {complaint}" for complaint in self.complaints[:SHOWN_LINES]]
            rest = [f"  and {bad - SHOWN_LINES} more"] if bad > SHOWN_LINES else []
            raise InvalidRequest(
                "\n".join([f"{bad} of {counted(self.lines, 'line')} cannot be used:", *shown, *rest])
            )


def read_lines(path: Path, what: str, parse: Callable[[object, str], T]) -> list[T]:
    """Parses the lines that are not empty; `parse` gets the JSON and its place (file and line), `what` names the file.

    Raises:
        InvalidRequest: the file cannot be read or holds no line, or lines are bad: all of them are named.
    """
    bad = BadLines()
    placed = _placed(path, what)
    bad.lines = len(placed)
    rows = [bad.check(place, partial(_parsed, parse, line, place)) for line, place in placed]
    bad.raise_any()
    return [row for row in rows if row is not None]


def _parsed(parse: Callable[[object, str], T], line: str, place: str) -> T:
    return parse(_json(line), place)


def repeat_of(values: Sequence[object]) -> tuple[int, int] | None:
    """Finds the places of the first two of JSON's values that are equal."""
    seen: dict[str, int] = {}
    for place, value in enumerate(values):
        first = seen.setdefault(json.dumps(value, sort_keys=True), place)
        if first != place:
            return first, place
    return None


def _placed(path: Path, what: str) -> list[tuple[str, str]]:
    try:
        # Not at U+2028 and others that JSON allows in text.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{what} {str(path)!r} cannot be read: {reason_of(error)}") from error
    placed = [(line, f"{path.name} line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not placed:
        raise InvalidRequest(f"{what} {str(path)!r}: the file holds no request")
    return placed


def _json(line: str) -> object:
    try:
        parsed: object = json_of_text(line)
    except ValueError as error:
        raise InvalidRequest(f"not JSON: {error}") from error
    return parsed
