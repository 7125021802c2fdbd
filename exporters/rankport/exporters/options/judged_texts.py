"""Files of judged texts, one JSON object a line: what a classifier is asked, and the labels that are right.

A line: {"text": "..."} of single texts or {"texts": ["first", "second"]} of pairs, with "label": "name", or a list of
names where labels do not exclude each other.
"""

from dataclasses import dataclass
from pathlib import Path

from rankport.exporters.options.bad_lines import read_lines
from rankport.protos.errors import InvalidRequest
from rankport.protos.wording import keys_had


@dataclass(frozen=True, slots=True)
class JudgedText:
    """A text or pair, and its labels."""

    text: str | tuple[str, str]
    labels: tuple[str, ...]
    place: str  # file and line


def read_judged_texts(path: Path) -> list[JudgedText]:
    """Reads judged texts. Raises InvalidRequest naming every bad line and what is wrong with it."""
    return read_lines(path, "judged texts", _parsed)


def _parsed(row: object, place: str) -> JudgedText:
    match row:
        case {"text": str() as text, "label": label, **rest} if not rest:
            return JudgedText(_filled(text), _labels(label), place)
        case {"texts": [str() as first, str() as second], "label": label, **rest} if not rest:
            return JudgedText((_filled(first), _filled(second)), _labels(label), place)
    raise InvalidRequest(
        'needs exactly the keys text, or texts of two, and label: {"text": …, "label": …}' + keys_had(row)
    )


def _filled(text: str) -> str:
    if not text.strip():
        raise InvalidRequest(f"a text is {text!r:.20}: give one that is not blank, or leave the line out")
    return text


def _labels(label: object) -> tuple[str, ...]:
    names = label if isinstance(label, list) else [label]
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise InvalidRequest(f"label is {label!r:.60}: give a name, or a list of names, each once")
    return tuple(names)
