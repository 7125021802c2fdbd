"""Values of option dataclasses: ranges of numbers, keyword arguments, and sizes of memory such as 4GiB.

What a field says of itself is `rankport.protos.flags`'.
"""

import os
import re
from collections.abc import Collection
from dataclasses import Field, fields
from fractions import Fraction
from numbers import Integral, Real
from typing import Any, TypeVar

from rankport.protos.errors import InvalidRequest
from rankport.protos.reasons import reason_of

T = TypeVar("T")

_UNITS = {"": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def check_ranges(options: Any) -> None:
    """Raises `InvalidRequest` for the first field whose value is outside of its range, or no number or bool at all.

    None is in every range.
    """
    for described in fields(options):
        least, most = described.metadata.get("least"), described.metadata.get("most")
        name, value = described.name, getattr(options, described.name)
        if described.type is bool and not isinstance(value, bool):
            raise InvalidRequest(f"{name} is {value!r}: it must be true or false")
        if value is None or (least is None and most is None):
            continue
        whole = described.type in (int, int | None)
        if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
            noun = "a whole number" if whole else "a number"
            raise InvalidRequest(f"{name} is {value!r}: it must be {noun}, {range_in_words(least, most)}")
        if (least is not None and not value >= least) or (most is not None and not value <= most):
            raise InvalidRequest(f"{name} is {value}: it must be {range_in_words(least, most)}")


def check_partners(options: Any) -> None:
    """Raises `InvalidRequest` for the first field of a dataclass that is set without the one that it needs."""
    by_name = {described.name: described for described in fields(options)}
    for described in by_name.values():
        partner = by_name.get(described.metadata.get("needs", ""))
        if partner is None or getattr(options, described.name) == described.default:
            continue
        if getattr(options, partner.name) == partner.default:
            value = getattr(options, described.name)
            raise InvalidRequest(
                f"{_with_flag(described)} is {value!r} without {_with_flag(partner)}, which it is for: give both or "
                "neither"
            )


def range_in_words(least: float | None, most: float | None) -> str:
    """Writes a range as what a number must be: `from 0 to 65535`, `at least 1`, `at most 9`."""
    if least is None:
        return f"at most {_number(most)}"
    return f"at least {_number(least)}" if most is None else f"from {_number(least)} to {_number(most)}"


def check_folder(option: str, path: str) -> None:
    """Raises `InvalidRequest` where an option names no folder that can be read."""
    try:
        os.scandir(path).close()
    except OSError as error:
        raise InvalidRequest(
            f"{option} is {path!r}: give a folder that is there, or leave it out ({reason_of(error)})"
        ) from error


def from_keywords(kind: type[T], given: dict[str, Any]) -> T:
    """Takes what belongs to a dataclass out of keyword arguments and makes it; lists become tuples."""
    known = [described.name for described in fields(kind) if described.name in given]  # type: ignore[arg-type]
    values = {name: given.pop(name) for name in known}
    return kind(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    )


def refuse_unknown(function: str, left: Collection[str], *kinds: Any) -> None:
    """Raises `InvalidRequest` for keyword arguments that belong to none of the dataclasses, naming those there are."""
    for name in left:
        known = ", ".join(described.name for kind in kinds for described in fields(kind))
        raise InvalidRequest(f"{function} has no option {name!r}: there are {known}")


def size_in_bytes(text: str) -> int:
    """Reads `4GiB`, `512 MiB`, `2.5GB` or a plain number of bytes. Raises `InvalidRequest` for anything else."""
    matched = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text, re.ASCII)
    if matched is None or matched[2].upper() not in _UNITS:
        raise InvalidRequest(f"{text!r} is no size: give bytes, or for example 512MiB, 4GiB")
    nbytes = Fraction(matched[1]) * _UNITS[matched[2].upper()]
    if not matched[2] and nbytes.denominator != 1:
        raise InvalidRequest(f"{text!r} is no whole number of bytes: give one, or for example 512MiB, 4GiB")
    return int(nbytes)


def size_in_words(nbytes: int) -> str:
    """Writes a number of bytes as `size_in_bytes` reads it, in the largest unit that divides it."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if nbytes and nbytes % unit == 0:
            return f"{nbytes // unit}{name}"
    return str(nbytes)


def _with_flag(described: "Field[Any]") -> str:
    """Writes an option as Python and the command line have it: `http_port (--http-port)`."""
    name = described.metadata.get("name", f"--{described.name.replace('_', '-')}")
    return f"{described.name} ({name})"


def _number(value: float | None) -> str:
    """Writes a bound with all of its digits."""
    return str(int(value)) if value is not None and value == int(value) else f"{value:g}"
