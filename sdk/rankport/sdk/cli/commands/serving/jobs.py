"""`rankport jobs`: offline jobs of a running server."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from rankport.protos.types import Side, Truncation
from rankport.sdk.server_jobs import ServerJobs

Server = Annotated[
    str, typer.Option(metavar="HOST:PORT", help="Where the server answers calls of this kind.")
]
Timeout = Annotated[float | None, typer.Option(help="Give up after this many seconds.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="Job, as `create` or `list` name it.")]
_LOCAL = "localhost:8500"
_EXAMPLE = """Have a running server encode catalogues: its own encoder, behind its requests, kept over a restart.

```
rankport serve encoder.bundle --jobs-file jobs.sqlite --job-root /data
rankport jobs create --items items.csv --store tokens --watch
```
"""


def jobs() -> typer.Typer:
    """Makes the command group."""
    group = typer.Typer(help=_EXAMPLE, no_args_is_help=True, add_completion=False)
    group.callback()(_group)
    group.command("list")(list_jobs)
    for command in (create, show, watch, cancel, retry):
        group.command()(command)
    return group


def _group() -> None:
    """Have a running server encode catalogues."""


def create(
    items: Annotated[
        str,
        typer.Option(
            metavar="FILE|FOLDER|PATTERN|URL",
            help="Items at the server, or behind a URL, below a --job-root.",
        ),
    ],
    store: Annotated[
        str,
        typer.Option(help="Token store below a --job-root. [default: the server's own, if it writes back]"),
    ] = "",
    model: Annotated[str, typer.Option(help="Encoder. [default: the server's only one]")] = "",
    id: Annotated[
        str, typer.Option(help="Name of the job; again with the same one makes no second. [default: any]")
    ] = "",
    id_column: Annotated[str, typer.Option(help="Column with the key of an item. [default: id]")] = "",
    text_column: Annotated[
        list[str] | None,
        typer.Option(help="Column with its text; repeat it to join several. [default: text]"),
    ] = None,
    separator: Annotated[
        str | None, typer.Option(help="Put between the texts of several columns. [default: a blank]")
    ] = None,
    text: Annotated[
        str, typer.Option(metavar="TEMPLATE", help='In place of --text-column: "{title}. {description:200}".')
    ] = "",
    deleted_column: Annotated[str, typer.Option(help="Column that says which items to delete.")] = "",
    shard: Annotated[str, typer.Option(metavar="I/N", help="Take this share of the items, as 3/16.")] = "",
    format: Annotated[
        str, typer.Option(help="csv, jsonl, parquet, arrow or lance, if the file's name does not tell.")
    ] = "",
    truncation: Annotated[
        Truncation, typer.Option(help="Texts over the encoder's limit: cut and counted, or bad rows.")
    ] = "truncate",
    side: Annotated[Side | None, typer.Option(help="Side of two towers that reads the texts.")] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="At the end, delete stored items that --items does not have.")
    ] = False,
    max_prune_share: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Largest share of them that goes; with more the job fails. [default: 0.2]"
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=0, help="Rows encoded at a time; 0 as `rankport encode`.")
    ] = 0,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until it has ended, as `watch`.")] = False,
    server: Server = _LOCAL,
    timeout_s: Timeout = 10.0,
    as_json: Json = False,
) -> None:
    """Add a job, which runs when its turn comes. A task that cannot be begun is refused at once."""
    from rankport.protos.jobs import EncodeTask
    from rankport.sdk.cli.output.jobs import show_until_ended, write_job

    task = EncodeTask(
        items=items,
        store=store,
        model=model,
        side=side,
        id_column=id_column,
        text_columns=tuple(text_column or ()),
        separator=separator,
        file_format=format,
        template=text,
        deleted_column=deleted_column,
        shard=shard,
        truncation=truncation,
        prune=prune,
        max_prune_share=max_prune_share,
        batch_size=batch_size,
    )
    with _jobs_of(server) as of_server:
        job = of_server.create(task, id, timeout_s)
        if not watch:
            write_job(job, as_json)
        elif not show_until_ended(of_server.watch(job.id), as_json):
            raise typer.Exit(1)


def show(id: Id, server: Server = _LOCAL, timeout_s: Timeout = 10.0, as_json: Json = False) -> None:
    """Show a job as it is now."""
    from rankport.sdk.cli.output.jobs import write_job

    with _jobs_of(server) as of_server:
        write_job(of_server.get(id, timeout_s), as_json)


def watch(id: Id, server: Server = _LOCAL, timeout_s: Timeout = None, as_json: Json = False) -> None:
    """Follow a job until it has ended: with --json an object a change. Exit 1 if it failed or was cancelled."""
    from rankport.sdk.cli.output.jobs import show_until_ended

    with _jobs_of(server) as of_server:
        if not show_until_ended(of_server.watch(id, timeout_s), as_json):
            raise typer.Exit(1)


def cancel(id: Id, server: Server = _LOCAL, timeout_s: Timeout = 10.0, as_json: Json = False) -> None:
    """End a job; one that runs, behind its batch. What is stored stays."""
    from rankport.sdk.cli.output.jobs import write_job

    with _jobs_of(server) as of_server:
        write_job(of_server.cancel(id, timeout_s), as_json)


def retry(
    id: Id,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until it has ended.")] = False,
    server: Server = _LOCAL,
    timeout_s: Timeout = 10.0,
    as_json: Json = False,
) -> None:
    """Have a job that failed or was cancelled wait again, behind all others. What is stored is unchanged then."""
    from rankport.sdk.cli.output.jobs import show_until_ended, write_job

    with _jobs_of(server) as of_server:
        job = of_server.retry(id, timeout_s)
        if not watch:
            write_job(job, as_json)
        elif not show_until_ended(of_server.watch(id), as_json):
            raise typer.Exit(1)


def list_jobs(server: Server = _LOCAL, timeout_s: Timeout = 10.0, as_json: Json = False) -> None:
    """List jobs, the newest first."""
    from rankport.sdk.cli.output.jobs import write_jobs

    with _jobs_of(server) as of_server:
        write_jobs(of_server.list(timeout_s), as_json)


@contextmanager
def _jobs_of(server: str) -> Iterator[ServerJobs]:
    from rankport.sdk.cli.flags.connection import connected

    with connected(server) as client:
        yield client.jobs
