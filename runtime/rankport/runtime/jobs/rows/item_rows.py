"""`RowForm`: what makes an `ItemRow` of a record. Owns which columns are its id and text, and when a row is bad.

A row is bad where its id is missing, blank, too long, or of a type without one exact text, and where its text columns
are all blank or one is no text.

Ids are text, taken verbatim, or integers, decimals (with the digits of their column: 12.50), UUIDs, dates, times and
timestamps, as their text. A bool or a float is no id: 1, 1.0 and true are one item to some writers and three to others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

from rankport.protos.errors import InvalidRequest
from rankport.runtime.jobs.config import FileColumns
from rankport.runtime.jobs.files.folders import Partitions
from rankport.runtime.jobs.rows.records import BadRow, Moment, Record, content_of
from rankport.runtime.jobs.rows.text_template import TextTemplate, joined
from rankport.runtime.store.token_spec import MAX_KEY_BYTES

_YES, _NO = frozenset({"true", "t", "yes", "y", "1"}), frozenset({"", "false", "f", "no", "n", "0"})
_EXACT = (int, Decimal, UUID, Moment)  # types with one text each, beside text


@dataclass(frozen=True, slots=True)
class ItemRow:
    """Item to encode."""

    line: int  # where it starts, from 1; a Parquet file's row number, from 1
    id: str
    text: str  # the text columns that are not blank, joined, or what a template makes of them
    deleted: bool = False  # to be deleted from the store
    file: str = ""  # where there are several
    # Of the columns read.
    values: Mapping[str, object] | None = field(default=None, compare=False, repr=False)

    def bad(self, reason: str) -> BadRow:
        """Makes a bad row of it."""
        content = "" if self.values is None else content_of(self.values)
        return BadRow(self.line, reason, self.id, self.file, content)


@dataclass(frozen=True, slots=True)
class RowForm:
    """Columns of a file's rows, and what is made of them. Make it with `of`."""

    id_column: str
    text_columns: tuple[str, ...]
    separator: str
    template: TextTemplate | None = None
    deleted_column: str | None = None
    partitions: Partitions = ()  # of the columns, those that the file's folders say, with their values

    @classmethod
    def of(cls, columns: FileColumns) -> "RowForm":
        """Makes it of what a user says. Raises `InvalidRequest` for no text column, and as `TextTemplate.parse`."""
        if not columns.text_columns:
            raise InvalidRequest("no text column: name at least one")
        template = None if columns.template is None else TextTemplate.parse(columns.template)
        text_columns = columns.text_columns if template is None else template.columns
        return cls(columns.id_column, text_columns, columns.separator, template, columns.deleted_column)

    @property
    def other_columns(self) -> tuple[str, ...]:
        """Columns that it reads beside the id."""
        return (*self.text_columns, *filter(None, [self.deleted_column]))

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that it reads, each once."""
        return tuple(dict.fromkeys((self.id_column, *self.other_columns)))

    def row(self, record: Record) -> ItemRow | BadRow:
        """Makes a row of a record."""
        item_id: str | None = None
        values = {name: record.values.get(name) for name in self.columns}
        values.update(self.partitions)
        try:
            item_id = _item_id(self.id_column, values.get(self.id_column))
            if self.deleted_column is not None and _says_so(
                self.deleted_column, values.get(self.deleted_column)
            ):
                return ItemRow(record.line, item_id, "", deleted=True, values=values)
            text = self._text_of(values)
            if not text:
                raise _BadValueError(f"no text in {', '.join(self.text_columns)}")
        except _BadValueError as error:
            return BadRow(record.line, str(error), item_id, content=content_of(values))
        return ItemRow(record.line, item_id, text, values=values)

    def _text_of(self, values: Mapping[str, object]) -> str:
        def text_of(name: str) -> str:
            value = values.get(name)
            # A template names its columns, and takes what has one text each.
            exact = self.template is not None and isinstance(value, _EXACT) and not isinstance(value, bool)
            return _exact_text(value) if exact else _text(name, value)

        if self.template is not None:
            return self.template.render(text_of)
        return joined(self.text_columns, self.separator, text_of)


class _BadValueError(ValueError):
    """Reason why a row is bad."""


def _item_id(name: str, value: object) -> str:
    exact = isinstance(value, _EXACT) and not isinstance(value, bool)
    item_id = _exact_text(value) if exact else _text(name, value)
    if not item_id or item_id.isspace():
        raise _BadValueError(f"no id in {name}")
    if len(item_id.encode()) > MAX_KEY_BYTES:
        raise _BadValueError(f"{name} has {len(item_id.encode())} bytes, the limit is {MAX_KEY_BYTES}")
    return item_id


def _exact_text(value: object) -> str:
    if isinstance(value, Moment):
        return value.text
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _text(name: str, value: object) -> str:
    """Reads the value as text: "" for null, and UTF-8 where a Parquet column has bytes."""
    if value is None:
        return ""
    try:
        text = value.decode() if isinstance(value, bytes) else value
        if not isinstance(text, str):
            kind = value.type if isinstance(value, Moment) else type(value).__name__
            raise _BadValueError(f"{name} is of type {kind}, not text")
        text.encode()  # lone surrogates: what CSV reading makes of stray bytes, and JSON of broken escapes
    except UnicodeError as error:
        raise _BadValueError(f"{name} is not valid UTF-8: {error.reason}") from error  # type: ignore[attr-defined]
    return text


def _says_so(name: str, value: object) -> bool:
    """Reads a column that says yes or no."""
    if isinstance(value, bool):
        return value
    word = (str(value) if isinstance(value, int) else _text(name, value)).strip().lower()
    if word in _YES or word in _NO:
        return word in _YES
    raise _BadValueError(f"{name} is {word[:40]!r}, and must say true or false")
