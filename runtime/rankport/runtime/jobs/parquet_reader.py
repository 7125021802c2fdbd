"""`ParquetReader`: records of Parquet. Owns what becomes of a value of each of its types."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from rankport.protos.errors import InvalidRequest
from rankport.protos.extras import extras_named
from rankport.runtime.jobs.records import BadRow, Moment, Record

_BATCH_ROWS = 4096
_OUT_OF_RANGE = "<value out of range"  # written by pyarrow in the place of a moment that no calendar has

Convert = Callable[[Any], object]  # of a scalar of pyarrow


class ParquetReader:
    """Reader of Parquet. Needs pyarrow, the extra `rankport[parquet]`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def columns(self) -> tuple[str, ...]:
        with _parquet_file(self._path) as file:
            return tuple(file.schema_arrow.names)

    def records(self, columns: Sequence[str]) -> Iterator[Record | BadRow]:
        with _parquet_file(self._path) as file:
            converts = _converts(file, columns)
            row = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=list(columns)):
                for index in range(batch.num_rows):
                    row += 1
                    yield _record(row, batch, index, converts)

    def count(self) -> int | None:
        with _parquet_file(self._path) as file:
            return int(file.metadata.num_rows)


def _converts(file: Any, columns: Sequence[str]) -> dict[str, Convert]:
    """Chooses, for each column, what makes a value of ours of one of Arrow's."""
    leaves = [file.schema.column(index) for index in range(len(file.schema))]
    ids = {leaf.path for leaf in leaves if str(leaf.logical_type) == "UUID"}
    return {
        name: _uuid if name in ids else _convert_of(file.schema_arrow.field(name).type) for name in columns
    }


def _convert_of(type_: Any) -> Convert:
    from pyarrow import types

    # A duration is a number of what unit its column says: no text of it stands for itself.
    if types.is_date(type_) or types.is_time(type_) or types.is_timestamp(type_):
        return _moment
    return _plain


def _plain(scalar: Any) -> object:
    return scalar.as_py()


def _uuid(scalar: Any) -> object:
    value = scalar.as_py()  # bytes from a pyarrow that knows no such type
    return UUID(bytes=value) if isinstance(value, bytes) else value


def _moment(scalar: Any) -> object:
    import pyarrow

    if not scalar.is_valid:
        return None
    text = scalar.cast(pyarrow.string()).as_py()
    if text.startswith(_OUT_OF_RANGE):
        raise ValueError("no calendar has it")
    return Moment(str(scalar.type), text)


def _record(row: int, batch: Any, index: int, converts: Mapping[str, Convert]) -> Record | BadRow:
    values: dict[str, object] = {}
    for name, convert in converts.items():
        column = batch.column(name)
        try:
            values[name] = convert(column[index])
        except UnicodeDecodeError as error:
            return BadRow(row, f"{name} has bytes that are not UTF-8: {error.reason} at byte {error.start}")
        except (ValueError, ArithmeticError, NotImplementedError, KeyError) as error:
            return BadRow(row, f"{name} has a value of type {column.type} that cannot be read: {error}")
    return Record(row, values)


@contextmanager
def _parquet_file(path: Path) -> Iterator[Any]:
    with extras_named(f"reading {path}", "parquet"):
        import pyarrow
        from pyarrow import parquet
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except pyarrow.ArrowException as error:
        raise InvalidRequest(f"{path} cannot be read as Parquet: {error}") from error
