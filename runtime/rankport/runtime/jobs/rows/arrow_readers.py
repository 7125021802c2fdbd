"""Readers of Parquet, Arrow's own files and Lance: records of columns. Owns what becomes of a value of each type."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from rankport.protos.errors import InvalidRequest
from rankport.protos.installed.extras import extras_named
from rankport.runtime.jobs.rows.column_types import ColumnType
from rankport.runtime.jobs.rows.records import WHOLE, BadRow, Moment, Record, Span, content_of

_BATCH_ROWS = 256  # fewer would cost time; more, memory where texts are long
_BUFFER_BYTES = 2**20
_SCAN_ROWS = 1024  # of a Lance dataset
_OUT_OF_RANGE = "<value out of range"  # written by pyarrow in the place of a moment that no calendar has

Convert = Callable[[Any], object]  # of a scalar of pyarrow


class ParquetReader:
    """Reader of Parquet. Needs pyarrow, the extra `rankport[parquet]`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def columns(self, wanted: Collection[str] = ()) -> tuple[str, ...]:
        with _parquet_file(self._path) as file:
            return tuple(file.schema_arrow.names)

    def types(self) -> Mapping[str, ColumnType]:
        with _parquet_file(self._path) as file:
            return _types(file.schema_arrow)

    def records(self, columns: Sequence[str], span: Span = WHOLE) -> Iterator[Record | BadRow]:
        with _parquet_file(self._path) as file:
            leaves = [file.schema.column(index) for index in range(len(file.schema))]
            uuids = {leaf.path for leaf in leaves if str(leaf.logical_type) == "UUID"}
            converts = _converts(file.schema_arrow, columns, uuids)
            groups, skipped = _row_groups(file.metadata, span)
            batches = file.iter_batches(batch_size=_BATCH_ROWS, row_groups=groups, columns=list(columns))
            yield from _records(_cut(batches, span.first - skipped, span.rows), converts, span.first)

    def count(self) -> int | None:
        with _parquet_file(self._path) as file:
            return int(file.metadata.num_rows)

    def spans(self, rows: int) -> Sequence[Span]:
        return _even_spans(self.count() or 0, rows)


class ArrowReader:
    """Reader of Arrow IPC, files (also called Feather) and streams alike. Needs pyarrow."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def columns(self, wanted: Collection[str] = ()) -> tuple[str, ...]:
        with _arrow_batches(self._path) as (schema, _):
            return tuple(schema.names)

    def types(self) -> Mapping[str, ColumnType]:
        with _arrow_batches(self._path) as (schema, _):
            return _types(schema)

    def records(self, columns: Sequence[str], span: Span = WHOLE) -> Iterator[Record | BadRow]:
        with _arrow_batches(self._path, columns) as (schema, batches):
            cut = _cut(batches, span.first, span.rows)
            yield from _records(cut, _converts(schema, columns, set()), span.first)

    def count(self) -> int | None:
        with _arrow_batches(self._path) as (schema, _):
            first = schema.names[:1]
        with _arrow_batches(self._path, first) as (_, batches):
            return sum(int(batch.num_rows) for batch in batches)

    def spans(self, rows: int) -> Sequence[Span]:
        return _even_spans(self.count() or 0, rows)


class LanceReader:
    """Reader of a Lance dataset, in the version that it has when it is opened. Needs pylance."""

    def __init__(self, path: Path) -> None:
        with extras_named(f"reading {path}", "lance"):
            import lance
        try:
            self._dataset: Any = lance.dataset(str(path))
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"{path} cannot be read as Lance: {error}") from error

    def columns(self, wanted: Collection[str] = ()) -> tuple[str, ...]:
        return tuple(self._dataset.schema.names)

    def types(self) -> Mapping[str, ColumnType]:
        return _types(self._dataset.schema)

    def records(self, columns: Sequence[str], span: Span = WHOLE) -> Iterator[Record | BadRow]:
        batches = _lance_batches(self._dataset, list(columns), span.first, span.rows)
        yield from _records(batches, _converts(self._dataset.schema, columns, set()), span.first)

    def count(self) -> int | None:
        return int(self._dataset.count_rows())

    def spans(self, rows: int) -> Sequence[Span]:
        return _even_spans(self.count() or 0, rows)


def _lance_batches(dataset: Any, columns: list[str], skip: int, rows: int | None) -> Iterator[Any]:
    """Yields the rows of a span by short scans: a long one reads far ahead, whatever it is told."""
    left = dataset.count_rows() if rows is None else rows
    for fragment in dataset.get_fragments():
        count = fragment.count_rows()
        last = min(count, skip + left)
        for first in range(skip, last, _SCAN_ROWS):
            limit = min(_SCAN_ROWS, last - first)
            yield from fragment.to_batches(columns=columns, batch_size=_BATCH_ROWS, offset=first, limit=limit)
        left -= max(0, last - skip)
        skip = max(0, skip - count)


def _even_spans(count: int, rows: int) -> Sequence[Span]:
    starts = range(0, count, rows)
    return [Span(first, min(rows, count - first)) for first in starts] or (WHOLE,)


def _row_groups(metadata: Any, span: Span) -> tuple[list[int], int]:
    """Finds the row groups that a span has rows of, and counts the rows before them."""
    last = metadata.num_rows if span.rows is None else span.first + span.rows
    groups, skipped, start = [], 0, 0
    for group in range(metadata.num_row_groups):
        end = start + metadata.row_group(group).num_rows
        if end <= span.first:
            skipped = end
        elif start < last:
            groups.append(group)
        start = end
    return groups, skipped


def _cut(batches: Iterable[Any], skip: int, rows: int | None) -> Iterator[Any]:
    """Yields batches without the first `skip` rows, and at most so many."""
    for batch in batches:
        if skip >= batch.num_rows:
            skip -= batch.num_rows
            continue
        cut, skip = batch.slice(skip, rows), 0
        if rows is not None:
            rows -= cut.num_rows
        yield cut
        if rows == 0:
            return


def _records(
    batches: Iterable[Any], converts: Mapping[str, Convert], first: int
) -> Iterator[Record | BadRow]:
    row = first
    for batch in batches:
        for index in range(batch.num_rows):
            row += 1
            yield _record(row, batch, index, converts)


def _converts(schema: Any, columns: Sequence[str], uuids: Set[str]) -> dict[str, Convert]:
    """Chooses, for each column, what makes a value of ours of one of Arrow's."""
    return {name: _uuid if name in uuids else _convert_of(schema.field(name).type) for name in columns}


def _values_type(kind: Any) -> Any:
    """Returns the type of a column's values, which its dictionary has, or the ends of its runs leave out."""
    from pyarrow import types

    encoded = types.is_dictionary(kind) or types.is_run_end_encoded(kind)
    return kind.value_type if encoded else kind


def _types(schema: Any) -> dict[str, ColumnType]:
    from pyarrow import types

    def of(kind: Any) -> ColumnType:
        values = _values_type(kind)
        inexact = types.is_floating(values) or types.is_boolean(values) or types.is_duration(values)
        return ColumnType(str(kind), types.is_nested(values), not inexact)

    return {field.name: of(field.type) for field in schema}


@contextmanager
def _arrow_batches(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[Any, Iterator[Any]]]:
    """Opens a file, or a stream, of Arrow's for the block: its schema, and its batches of those columns, else of all.

    A batch is read as it was written, so what it holds is in memory; other columns are not, where they are compressed.
    """
    with extras_named(f"reading {path}", "parquet"):
        import pyarrow
    try:
        with pyarrow.memory_map(str(path)) as source:
            is_file = source.read(6) == b"ARROW1"
            opened = pyarrow.ipc.open_file if is_file else pyarrow.ipc.open_stream
            source.seek(0)
            schema = opened(source).schema
            source.seek(0)
            fields = [place for place, name in enumerate(schema.names) if name in columns]
            batches = opened(source, options=pyarrow.ipc.IpcReadOptions(included_fields=fields))
            if is_file:
                yield schema, (batches.get_batch(index) for index in range(batches.num_record_batches))
            else:
                yield schema, iter(batches)
    except pyarrow.ArrowException as error:
        raise InvalidRequest(f"{path} cannot be read as Arrow: {error}") from error


def _convert_of(type_: Any) -> Convert:
    from pyarrow import types

    values = _values_type(type_)
    # A duration is a number of what unit its column says: no text of it stands for itself.
    if types.is_date(values) or types.is_time(values) or types.is_timestamp(values):
        return _moment if values == type_ else _encoded_moment
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


def _encoded_moment(scalar: Any) -> object:
    return _moment(scalar.value) if scalar.is_valid else None


def _record(row: int, batch: Any, index: int, converts: Mapping[str, Convert]) -> Record | BadRow:
    values: dict[str, object] = {}
    reasons: list[str] = []
    for name, convert in converts.items():
        column = batch.column(name)
        try:
            values[name] = convert(column[index])
        except UnicodeDecodeError as error:
            reasons.append(f"{name} has bytes that are not UTF-8: {error.reason} at byte {error.start}")
        except (ValueError, ArithmeticError, NotImplementedError, KeyError) as error:
            reasons.append(f"{name} has a value of type {column.type} that cannot be read: {error}")
    return BadRow(row, reasons[0], content=content_of(values)) if reasons else Record(row, values)


@contextmanager
def _parquet_file(path: Path) -> Iterator[Any]:
    with extras_named(f"reading {path}", "parquet"):
        import pyarrow
        from pyarrow import parquet
    try:
        # pyarrow's defaults hold all columns that are read, of the whole file, in memory.
        with parquet.ParquetFile(
            path, page_checksum_verification=True, pre_buffer=False, buffer_size=_BUFFER_BYTES
        ) as file:
            yield file
    except pyarrow.ArrowException as error:
        raise InvalidRequest(f"{path} cannot be read as Parquet: {error}") from error
