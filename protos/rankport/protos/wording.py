"""Words of messages: numbers with their nouns, and names that are amiss, each said where there is one."""

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)

_MOST = 10  # names that are listed


def counted(count: int, noun: str, form: str = "") -> str:
    """Writes a number and its noun, in the plural where there is not one: 1 item, 2 queries. `form`: of the number."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:{form}} {noun[:-1]}ies" if noun.endswith("ry") else f"{count:{form}} {noun}s"


def be(count: int) -> str:
    """Gives the verb of a number of things: 1 item is, 2 items are."""
    return "is" if count == 1 else "are"


def type_told(value: object) -> str:
    """Names the type of a value that is none of those that it may be: an int, a list; None."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeio' else 'a'} {name}"


def listed(names: Sequence[object], otherwise: str = "none") -> str:
    """Writes the first ten names with commas between them; `otherwise` where there is none."""
    if not names:
        return otherwise
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(map(str, names[:_MOST])) + more


def repeated(names: Iterable[Name]) -> list[Name]:
    """Lists the names that come more than once, in their order. They may be many: a client chooses how many."""
    return [name for name, count in Counter(names).items() if count > 1]


def keys_amiss(given: object, needed: Sequence[str], known: Collection[str]) -> str:
    """Writes, behind a colon, which keys a JSON object lacks and which it may not have; "" of what is none, or fits."""
    if not isinstance(given, Mapping):
        return ""
    said = amiss([key for key in needed if key not in given], [key for key in given if key not in known])
    return f": {said}" if said else ""


def keys_had(given: object) -> str:
    """Writes, behind a comma, which keys a JSON object has; "" of what is none."""
    return f", has {listed(list(given))}" if isinstance(given, Mapping) else ""


def amiss(missing: Sequence[object], unknown: Sequence[object]) -> str:
    """Writes which names are missing and which unknown, and nothing of those that there are none of."""
    said = [
        f"{word} {listed(names)}" for word, names in (("missing", missing), ("unknown", unknown)) if names
    ]
    return ", ".join(said)
