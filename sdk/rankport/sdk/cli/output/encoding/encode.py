"""Progress and report of `rankport encode`, for people and as JSON."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TextIO, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from rankport.protos.errors import InvalidRequest
from rankport.runtime.jobs.encode_report import EncodeProgress, EncodeReport
from rankport.runtime.jobs.rows.records import BadRow
from rankport.sdk.cli.output.writing import write_json, writing

T = TypeVar("T")
_SHOWN_BAD_ROWS = 10
_PLAIN_INTERVAL_S = 10.0  # between progress lines where stderr is no terminal


def both(first: Callable[[T], None], second: Callable[[T], None] | None) -> Callable[[T], None]:
    """Makes one callback of two."""

    def tell(value: T) -> None:
        first(value)
        if second is not None:
            second(value)

    return tell


@contextmanager
def write_bad_rows(path: Path | None, items: Sequence[str]) -> Iterator[Callable[[BadRow], None] | None]:
    """Gives what writes a bad row to a file, or "-", as a line of JSON; None where no file is named.

    Raises `InvalidRequest` for a file that is one of the items.
    """
    if path is None:
        yield None
        return
    refuse_item_file("--bad-rows", path, items)
    target = f"--bad-rows {path}"
    with writing(target):
        stream = sys.stdout if str(path) == "-" else _opened(path)

    def write(row: BadRow) -> None:
        with writing(target):
            letter = {**_as_json(row), "row": json.loads(row.content) if row.content else None}
            print(json.dumps(letter), file=stream)

    try:
        yield write
    finally:
        with writing(target):
            stream.flush() if stream is sys.stdout else stream.close()


def _opened(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w", encoding="utf-8")


def refuse_item_file(option: str, file: Path | None, items: Sequence[str]) -> None:
    """Raises `InvalidRequest` for a file to write that is one of the items."""
    if file is not None and os.path.realpath(file) in map(os.path.realpath, items):
        raise InvalidRequest(f"{option} {file} is a file of the items: give another one")


@contextmanager
def show_progress(console: Console, total: int | None) -> Iterator[Callable[[EncodeProgress], None]]:
    """Gives what shows progress: a live bar on a terminal, a line now and then elsewhere."""
    if not console.is_terminal:
        yield _plainshow_progress(console, total)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("reading", total=total)
        begun_s = time.monotonic()

        def update(now: EncodeProgress) -> None:
            pace = describe_pace(now.rows, None, time.monotonic() - begun_s)
            bar.update(task, completed=now.rows, description=f"{_describe(now)}; {pace}")

        yield update
        rows = int(bar.tasks[0].completed)
        bar.update(task, total=rows)  # the count before was an estimate


def _plainshow_progress(console: Console, total: int | None) -> Callable[[EncodeProgress], None]:
    begun_s = shown_s = time.monotonic()

    def update(now: EncodeProgress) -> None:
        nonlocal shown_s
        if time.monotonic() - shown_s >= _PLAIN_INTERVAL_S:
            shown_s = time.monotonic()
            of_total = f" of {total}" if total is not None else ""
            pace = describe_pace(now.rows, total, shown_s - begun_s)
            console.print(
                f"{now.rows}{of_total} rows: {_describe(now)}; {pace}", soft_wrap=True, highlight=False
            )

    return update


def describe_pace(rows: int, total: int | None, seconds: float) -> str:
    """Says how fast rows are done with and, where their number is known, how long the rest takes."""
    pace = rows / seconds
    if total is None or not pace:
        return f"{pace:,.1f} rows/s"
    left = timedelta(seconds=round(max(0, total - rows) / pace))
    return f"{pace:,.1f} rows/s, {left} left"


def _describe(now: EncodeProgress) -> str:
    deleted = f", {now.deleted} deleted" if now.deleted else ""
    return f"{now.encoded} encoded, {now.unchanged} unchanged{deleted}, {now.bad_rows} bad"


def print_report(console: Console, report: EncodeReport, stored: int) -> None:
    """Prints what the job did, and the first bad rows."""
    table = Table(title="Embedding tokens", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("rows read", str(report.rows_read))
    table.add_row("encoded", str(report.encoded))
    table.add_row("unchanged", str(report.unchanged))
    table.add_row("of these cut to the limit", str(report.truncated))
    table.add_row("bad rows", str(report.bad_rows), style="bold yellow" if report.bad_rows else None)
    if report.deleted:
        table.add_row("deleted, as rows say", str(report.deleted))
    table.add_row("pruned", str(report.pruned))
    table.add_row("items in the store", str(stored))
    table.add_row("seconds", f"{report.seconds:.1f}")
    table.add_row("items encoded / s", f"{report.items_per_s:.1f}")
    console.print(table)
    for row in report.first_bad_rows[:_SHOWN_BAD_ROWS]:
        name = f" of {row.file}" if row.file else ""
        name += f" ({row.id})" if row.id is not None else ""
        console.print(
            f"bad row {row.line}{name}: {row.reason}", soft_wrap=True, markup=False, highlight=False
        )
    if report.bad_rows > _SHOWN_BAD_ROWS:
        console.print(f"… and {report.bad_rows - _SHOWN_BAD_ROWS} more: --bad-rows FILE has them all")


def _as_json(row: BadRow) -> dict[str, object]:
    """Gives a bad row's values but its content; its file where there are several."""
    values = asdict(row)
    del values["content"]
    if not row.file:
        del values["file"]
    return values


def failure_of(report: EncodeReport, max_bad_rows: int | None) -> str:
    """Says why the job counts as failed; empty where it does not."""
    failures = [report.failure]
    if report.usable_rows and max_bad_rows is not None and report.bad_rows > max_bad_rows:
        failures.insert(0, f"{report.bad_rows} bad rows, --max-bad-rows is {max_bad_rows}")
    return "; ".join(filter(None, failures))


def write_report(
    file: Path | None, report: EncodeReport, stored: int, fingerprint: str, failure: str
) -> None:
    """Writes the report as JSON, if a file is named."""
    content = {
        "encoder": fingerprint,
        "passed": not failure,
        "failure": failure,
        "stored": stored,
        **asdict(report),
        "first_bad_rows": [_as_json(row) for row in report.first_bad_rows],
    }
    write_json(file, content)
