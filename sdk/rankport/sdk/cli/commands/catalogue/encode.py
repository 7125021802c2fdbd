"""`rankport encode`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal

import typer

from rankport.protos.errors import RankportError
from rankport.protos.installed.extras import extras_named
from rankport.runtime.config import Device, EngineConfig, engine_config
from rankport.runtime.jobs.config import GPU_DEFAULTS, EncodeJobConfig, FileColumns, encode_job_config
from rankport.runtime.jobs.datasets import DatasetFormat, format_of_folder
from rankport.runtime.jobs.datasets.ray_config import RayConfig
from rankport.sdk.cli.flags.dataclass_options import filled, flags_of, given_values, takes, values_of
from rankport.sdk.cli.flags.encoder import BundleFlag, DeviceIdFlag, SideFlag, TokenDtypeFlag
from rankport.sdk.cli.flags.written import writable


@takes(
    *flags_of(FileColumns),
    *flags_of(EncodeJobConfig, elsewhere={"a GPU": GPU_DEFAULTS}),
    *flags_of(RayConfig, panel="Ray"),
    *flags_of(EngineConfig, only=("device",)),
)
def encode(
    bundle: BundleFlag,
    items: Annotated[
        list[str],
        typer.Option(
            metavar="FILE|FOLDER|PATTERN|URL",
            help="The items: .csv, .jsonl, .parquet, .arrow, .lance; CSV, JSONL also compressed. May be given again.",
        ),
    ],
    store: Annotated[
        str | None, typer.Option(help="Token store: directory or redis://…; made if not there.")
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="A dataset in place of a store: of --items, and of nothing else, at the end.",
        ),
    ] = None,
    dataset_format: Annotated[
        DatasetFormat | None,
        typer.Option(
            help="Format of the --dataset. [default: as its name ends, in .arrow or .lance, else parquet]"
        ),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Make a --dataset in this process, or on the actors of a Ray cluster."),
    ] = "local",
    device_id: DeviceIdFlag = 0,
    side: SideFlag = None,
    token_dtype: TokenDtypeFlag = None,
    publish: Annotated[
        Literal["now", "when-complete"],
        typer.Option(
            help="Show the tokens of an encoder that is new to the store at once, or all in one step."
        ),
    ] = "now",
    max_bad_rows: Annotated[
        int | None,
        typer.Option(min=0, help="Exit 1 if more rows than this are bad. [default: any number is fine]"),
    ] = None,
    bad_rows: Annotated[
        Path | None,
        typer.Option(
            help='Write all bad rows here: {"line":…, "id":…, "reason":…, "row":…} a line.', callback=writable
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Write a page here: lengths, padding, rates over time, bad rows.", callback=writable
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the report here; - for stdout.", callback=writable)
    ] = None,
    **given: Any,
) -> None:
    """Compute the embedding tokens of a catalogue and keep them for serving.

    Items whose text is stored already are skipped, so run it again after every change of the catalogue. Killed at
    any moment it loses nothing: the same command goes on where it stopped. A bad row never ends the job; it is
    reported at the end and keeps whatever was stored for its id. A quote in a CSV that is never closed, or closed amid
    its text, ends it: nobody knows which lines behind it are rows.

    Exit codes: 0 done, bad rows included unless --max-bad-rows says otherwise; 1 no row could be used, too many bad
    rows, items that --prune was not sure enough of to delete, the bundle or the store failed, or a file is not there or
    refused; 2 what was asked is wrong, such as a column that is not there, or a file that is damaged.
    """
    from rankport.sdk.cli.output.consoles import plain_console, tell_failures

    if (store is None) == (dataset is None):
        raise typer.BadParameter("give either --store or --dataset")
    if engine == "local" and (told := values_of(RayConfig, given)):
        raise typer.BadParameter(
            f"{', '.join(told)} of a Ray cluster: give --engine ray too, or leave it out"
        )
    given |= {"device_id": device_id, "side": side, "token_dtype": token_dtype}
    outputs = _Outputs(bad_rows, json_file, html, max_bad_rows)
    if dataset is not None:
        if publish != "now" or html is not None:
            raise typer.BadParameter("--publish and --html go with --store")
        given["part_format"] = dataset_format
        failure = _to_dataset(bundle, items, dataset, engine, given, outputs)
    else:
        assert store is not None, "it is given"
        if dataset_format is not None:
            raise typer.BadParameter("--dataset-format goes with --dataset")
        if engine != "local":
            raise typer.BadParameter("--engine ray goes with --dataset; a store has one writer")
        failure = _to_store(bundle, items, store, publish, given, outputs)
    if failure:
        tell_failures(plain_console(stderr=True), [failure])
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Files beside the tokens, and when the job counts as failed."""

    bad_rows: Path | None
    json_file: Path | None
    html: Path | None
    max_bad_rows: int | None


def _to_store(
    bundle: Path,
    items: list[str],
    store: str,
    publish: Literal["now", "when-complete"],
    given: dict[str, Any],
    outputs: _Outputs,
) -> str:
    """Fills a store, tells what became of it, and returns why it counts as failed, if it does."""
    from rankport.runtime.jobs.encode_job import namespace_of, run_encode_job
    from rankport.runtime.jobs.history import JobHistory
    from rankport.runtime.jobs.rows.sources import ItemSources
    from rankport.runtime.jobs.storable import storable
    from rankport.runtime.kinds.table import load_encoder
    from rankport.runtime.store.opening import open_store
    from rankport.sdk.cli.output.consoles import plain_console
    from rankport.sdk.cli.output.encoding import encode as told
    from rankport.sdk.cli.output.encoding.encode_page import write_page
    from rankport.sdk.cli.output.run_facts import RunFacts
    from rankport.sdk.offline import of_side

    console = plain_console(stderr=True)
    device: Device = given["device"]
    config = encode_job_config(device, **given_values(EncodeJobConfig, given))
    with ItemSources.open(items, filled(FileColumns, given)) as sources:
        told.refuse_item_file("--json", outputs.json_file, sources.names)
        told.refuse_item_file("--html", outputs.html, sources.names)
        with (
            load_encoder(bundle, engine_config(device, device_ids=(given["device_id"],))) as encoder,
            nullcontext(storable(of_side(encoder, given["side"]))) as source,
            told.write_bad_rows(outputs.bad_rows, sources.names) as on_bad_row,
            open_store(store, create=True) as tokens,
            _continuable(),
        ):
            namespace = namespace_of(tokens, source, given["token_dtype"], hidden=publish == "when-complete")
            with told.show_progress(console, sources.count()) as on_progress:
                history, rows = JobHistory(), sources.rows()
                report = run_encode_job(
                    history.watched(source),
                    namespace,
                    rows,
                    config,
                    on_progress=told.both(history.take_progress, on_progress),
                    on_bad_row=told.both(history.take_bad_row, on_bad_row),
                    owns=sources.owns,
                    strays=lambda: rows.strays,
                )
            stored = len(namespace)
            failure = told.failure_of(report, outputs.max_bad_rows)
            if publish == "when-complete" and not failure:
                tokens.publish(source.fingerprint)
            hidden = source.fingerprint in tokens.filling()
    told.print_report(console, report, stored)
    if hidden:
        console.print(
            f"not published yet: `rankport store publish {source.fingerprint} --store {quote(str(store))}`",
            soft_wrap=True,
        )
    told.write_report(outputs.json_file, report, stored, source.fingerprint, failure)
    write_page(outputs.html, report, history, stored, failure, RunFacts.of_this())
    return failure


def _to_dataset(
    bundle: Path,
    items: list[str],
    folder: Path,
    engine: Literal["local", "ray"],
    given: dict[str, Any],
    outputs: _Outputs,
) -> str:
    """Makes a dataset, tells what became of it, and returns why it counts as failed, if it does."""
    from rankport.runtime.bundle.fingerprint import side_fingerprint
    from rankport.runtime.jobs.rows.sources import ItemSources
    from rankport.runtime.kinds.table import open_bundle
    from rankport.sdk.cli.output.consoles import plain_console
    from rankport.sdk.cli.output.encoding import encode as told

    part_format: DatasetFormat = given["part_format"] or format_of_folder(folder)
    extra = "ray" if engine == "ray" else "lance" if part_format == "lance" else "parquet"
    with extras_named("--dataset", extra):
        from rankport.sdk.datasets import encode_dataset

    console = plain_console(stderr=True)
    known = {name: value for name, value in given.items() if value is not None}
    sources = ItemSources.find(items, filled(FileColumns, given))
    told.refuse_item_file("--json", outputs.json_file, sources.names)
    with (
        told.write_bad_rows(outputs.bad_rows, sources.names) as on_bad_row,
        _continuable(),
        told.show_progress(console, _counted(sources.count)) as on_progress,
    ):
        report = encode_dataset(
            bundle, items, folder, engine=engine, on_progress=on_progress, on_bad_row=on_bad_row, **known
        )
    stored = report.encoded + report.unchanged
    encoder = side_fingerprint(open_bundle(bundle).manifest.fingerprint, given["side"] or "item")
    failure = told.failure_of(report, outputs.max_bad_rows)
    told.print_report(console, report, stored)
    told.write_report(outputs.json_file, report, stored, encoder, failure)
    return failure


def _counted(count: Callable[[], int | None]) -> int | None:
    """Counts rows, roughly; None also for files that the job will refuse, with its own words."""
    try:
        return count()
    except RankportError:
        return None


@contextmanager
def _continuable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted: what is stored stays, the same command goes on from there", err=True)
        raise typer.Exit(130) from None
