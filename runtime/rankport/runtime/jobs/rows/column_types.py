"""Checks of the columns of a file: those that there are, and types that have no ids or texts; told before any row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rankport.protos.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class ColumnType:
    """Type of a column as its file says it."""

    name: str
    nested: bool  # no value is one text
    exact: bool  # a value may be an id


def check_columns(
    file: Path, columns: Sequence[str], types: Mapping[str, ColumnType], id_column: str, others: Sequence[str]
) -> None:
    """Raises `InvalidRequest` for a column that is missing, there twice, or of a type that has no id, or no text."""
    for name in (id_column, *others):
        if columns.count(name) != 1:
            problem = f"{columns.count(name)} columns" if name in columns else "no column"
            raise InvalidRequest(f"{file} has {problem} {name!r}; its columns: {', '.join(columns)}")
    for name, needed in ((id_column, "an id"), *((name, "a text") for name in others)):
        kind = types.get(name)
        if kind is not None and (kind.nested or (needed == "an id" and not kind.exact)):
            raise InvalidRequest(
                f"{file} has column {name!r} of type {kind.name:.100}, of which no value is {needed}: name another "
                "column, or write its text into one"
            )
