"""`rankport encode`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from rankport.runtime.jobs.encode_job import EncodeProgress, EncodeReport
    from rankport.runtime.jobs.items_file import BadRow, ItemsFile

_BATCH_ROWS = {"cpu": 64, "cuda": 1024, "tensorrt": 1024}
_SHOWN_BAD_ROWS = 10
_PLAIN_INTERVAL_S = 10.0  # between progress lines where stderr is no terminal


def encode(
    bundle: Annotated[Path, typer.Option(help="Item encoder bundle that makes the tokens.")],
    items: Annotated[
        Path, typer.Option(help="The items: .csv, .jsonl or .parquet; CSV and JSONL also as .gz.")
    ],
    store: Annotated[Path, typer.Option(help="Token store directory; made if it is not there.")],
    id_column: Annotated[str, typer.Option(help="Column with the key that requests will name.")] = "id",
    text_column: Annotated[
        list[str] | None,
        typer.Option(
            help="Column with the text to encode; repeat it to join several. [default: text]",
            show_default=False,
        ),
    ] = None,
    separator: Annotated[str, typer.Option(help="Put between the texts of several columns.")] = " ",
    file_format: Annotated[
        Literal["csv", "jsonl", "parquet"] | None,
        typer.Option("--format", help="Format of --items, if its name does not tell."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Rows encoded, and stored durably, at a time. [default: 64, on a GPU 1024]",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        Literal["cpu", "cuda", "tensorrt"],
        typer.Option(
            help="Where it is encoded; cuda takes bundles exported with --target onnx-cuda, tensorrt the plans of "
            "`rankport build`."
        ),
    ] = "cpu",
    device_id: Annotated[int, typer.Option(min=0, help="Number of the GPU.")] = 0,
    truncation: Annotated[
        Literal["truncate", "error"],
        typer.Option(help="Texts over the encoder's limit: cut and counted, or bad rows."),
    ] = "truncate",
    prune: Annotated[
        bool, typer.Option("--prune", help="At the end, delete stored items that --items does not have.")
    ] = False,
    max_bad_rows: Annotated[
        int | None,
        typer.Option(min=0, help="Exit 1 if more rows than this are bad. [default: any number is fine]"),
    ] = None,
    bad_rows: Annotated[
        Path | None, typer.Option(help='Write all bad rows here: {"line":…, "id":…, "reason":…} a line.')
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the report here; - for stdout.")
    ] = None,
) -> None:
    """Compute the embedding tokens of a catalogue and keep them for serving.

    Items whose text is stored already are skipped, so run it again after every change of the catalogue. Killed at
    any moment it loses nothing: the same command goes on where it stopped. A bad row never ends the job; it is
    reported at the end and keeps whatever was stored for its id.

    Exit codes: 0 done, bad rows included unless --max-bad-rows says otherwise; 1 no row could be used, too many bad
    rows, or the bundle, the store or the file failed; 2 wrong usage, such as a column that is not there.
    """
    from rich.console import Console

    from rankport.runtime.config import engine_config
    from rankport.runtime.jobs.encode_job import EncodeJobConfig, namespace_of, run_encode_job
    from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
    from rankport.runtime.store.store import TokenStore

    console = Console(stderr=True)
    rows = batch_size or _BATCH_ROWS[device]
    config = EncodeJobConfig(batch_size=rows, truncation=truncation, prune=prune)
    file = _open_items(items, id_column, text_column or ["text"], separator, file_format)
    with (
        ItemEncoder.load(bundle, config=engine_config(device, device_ids=(device_id,))) as encoder,
        TokenStore.open(store, create=True) as tokens,
        _bad_row_writer(bad_rows) as on_bad_row,
        _continuable(console),
    ):
        namespace = namespace_of(tokens, encoder)
        with _progress(console, file.count()) as on_progress:
            report = run_encode_job(
                encoder, namespace, file.rows(), config, on_progress=on_progress, on_bad_row=on_bad_row
            )
        stored = len(namespace)
    _print_report(console, report, stored)
    failure = _failure(report, max_bad_rows)
    _write_report(json_file, report, stored, encoder.fingerprint, failure)
    if failure:
        console.print(f"FAILED: {failure}", style="bold red", soft_wrap=True, markup=False)
        raise typer.Exit(1)


def _open_items(
    items: Path, id_column: str, text_columns: list[str], separator: str, file_format: str | None
) -> "ItemsFile":
    from rankport.protos.errors import InvalidRequest, NotFound
    from rankport.runtime.jobs.items_file import ItemsFile

    try:
        return ItemsFile.open(
            items,
            id_column=id_column,
            text_columns=text_columns,
            separator=separator,
            file_format=file_format,
        )
    except (InvalidRequest, NotFound) as error:
        raise typer.BadParameter(str(error)) from error


@contextmanager
def _continuable(console: "Console") -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        console.print("interrupted: what is stored stays, the same command goes on from there")
        raise typer.Exit(130) from None


@contextmanager
def _bad_row_writer(path: Path | None) -> "Iterator[Callable[[BadRow], None] | None]":
    import json
    from dataclasses import asdict

    from rankport.sdk.cli.writing import writing

    if path is None:
        yield None
        return
    target = f"--bad-rows {path}"
    with writing(target):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w", encoding="utf-8")

    def write(row: "BadRow") -> None:
        with writing(target):
            print(json.dumps(asdict(row)), file=stream)

    try:
        yield write
    finally:
        with writing(target):
            stream.close()


@contextmanager
def _progress(console: "Console", total: int | None) -> "Iterator[Callable[[EncodeProgress], None]]":
    """A live bar on a terminal, a line now and then elsewhere."""
    if not console.is_terminal:
        yield _plain_progress(console, total)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("reading", total=total)

        def update(now: "EncodeProgress") -> None:
            bar.update(task, completed=now.rows, description=_describe(now))

        yield update
        rows = int(bar.tasks[0].completed)
        bar.update(task, total=rows)  # the count before was an estimate


def _plain_progress(console: "Console", total: int | None) -> "Callable[[EncodeProgress], None]":
    import time

    shown_s = time.monotonic()

    def update(now: "EncodeProgress") -> None:
        nonlocal shown_s
        if time.monotonic() - shown_s >= _PLAIN_INTERVAL_S:
            shown_s = time.monotonic()
            of_total = f" of {total}" if total is not None else ""
            console.print(f"{now.rows}{of_total} rows: {_describe(now)}", soft_wrap=True, highlight=False)

    return update


def _describe(now: "EncodeProgress") -> str:
    return f"{now.encoded} encoded, {now.unchanged} unchanged, {now.bad_rows} bad"


def _print_report(console: "Console", report: "EncodeReport", stored: int) -> None:
    from rich.table import Table

    table = Table(title="Embedding tokens", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("rows read", str(report.rows_read))
    table.add_row("encoded", str(report.encoded))
    table.add_row("unchanged", str(report.unchanged))
    table.add_row("of these cut to the limit", str(report.truncated))
    table.add_row("bad rows", str(report.bad_rows), style="bold yellow" if report.bad_rows else None)
    table.add_row("pruned", str(report.pruned))
    table.add_row("items in the store", str(stored))
    table.add_row("seconds", f"{report.seconds:.1f}")
    table.add_row("items encoded / s", f"{report.items_per_s:.1f}")
    console.print(table)
    for row in report.first_bad_rows[:_SHOWN_BAD_ROWS]:
        name = f" ({row.id})" if row.id is not None else ""
        console.print(
            f"bad row {row.line}{name}: {row.reason}", soft_wrap=True, markup=False, highlight=False
        )
    if report.bad_rows > _SHOWN_BAD_ROWS:
        console.print(f"… and {report.bad_rows - _SHOWN_BAD_ROWS} more: --bad-rows FILE has them all")
    if report.prune_refused:
        console.print(f"not pruned: {report.prune_refused}", style="bold yellow", markup=False)


def _failure(report: "EncodeReport", max_bad_rows: int | None) -> str:
    if report.encoded + report.unchanged == 0:
        return f"none of {report.rows_read} rows could be used"
    if max_bad_rows is not None and report.bad_rows > max_bad_rows:
        return f"{report.bad_rows} bad rows, --max-bad-rows is {max_bad_rows}"
    return ""


def _write_report(
    file: Path | None, report: "EncodeReport", stored: int, fingerprint: str, failure: str
) -> None:
    from dataclasses import asdict

    from rankport.sdk.cli.tables import write_json
    from rankport.sdk.cli.writing import writing

    content = {
        "encoder": fingerprint,
        "passed": not failure,
        "failure": failure,
        "stored": stored,
        **asdict(report),
    }
    with writing(f"--json {file}"):
        write_json(file, content)
