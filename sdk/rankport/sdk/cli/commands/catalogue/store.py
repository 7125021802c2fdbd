"""`rankport store`: what a token store holds, how two differ; copied, compacted, published and dropped."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from rankport.protos.wording import be, counted
from rankport.sdk.cli.flags.written import writable

Location = Annotated[str, typer.Argument(metavar="STORE", help="Token store: a directory, or redis://….")]
Fingerprint = Annotated[str, typer.Argument(help="Fingerprint of the encoder, as `store inspect` tells it.")]
Store = Annotated[str, typer.Option(help="Token store.")]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", help="Write the result as JSON here; - for stdout.", callback=writable),
]
Frozen = Annotated[bool, typer.Option("--frozen", help="Read LMDB without a lock: nobody may write to it.")]


def store() -> typer.Typer:
    """Makes the command group."""
    group = typer.Typer(
        help="Look into token stores, compare, copy, compact and clean them.",
        no_args_is_help=True,
        add_completion=False,
    )
    group.callback()(_group)
    for command in (inspect, diff, copy, compact, publish, drop):
        group.command()(command)
    return group


def _group() -> None:
    """Look into token stores, compare, copy, compact and clean them."""


def inspect(
    store: Location,
    check: Annotated[bool, typer.Option("--check", help="Read all tokens, and compare their sums.")] = False,
    frozen: Frozen = False,
    json_file: JsonFile = None,
) -> None:
    """List the encoders whose tokens a store has: published or not, shape, items, bytes; with --check age and faults.

    Redis keeps no counts: the items of each encoder are counted by a scan of all keys of its database.

    Exit codes: 0 done; 1 the store cannot be read, or --check found values that cannot.
    """
    from rankport.runtime.store.inspection import inspect_store
    from rankport.runtime.store.opening import open_store
    from rankport.sdk.cli.output.stores import write_inspection

    with open_store(store, read_only=True, frozen=frozen, check=check) as tokens:
        if tokens.counts_by_scan:
            print(f"{tokens.location}: counts items by a scan of all keys of the database", file=sys.stderr)
        location, encoders = tokens.location, inspect_store(tokens, check=check)
    write_inspection(location, encoders, json_file)
    if any(encoder.checked is not None and not encoder.checked.passed for encoder in encoders):
        raise typer.Exit(1)


def diff(
    first: Annotated[str, typer.Argument(help="Token store.")],
    second: Annotated[str, typer.Argument(help="Token store that it is compared with.")],
    encoder: Annotated[
        str | None, typer.Option(help="Fingerprint. [default: the one that both have, if it is one]")
    ] = None,
    to_encoder: Annotated[
        str | None, typer.Option(help="Fingerprint in the second store. [default: that of the first]")
    ] = None,
    list_file: Annotated[
        Path | None,
        typer.Option(
            "--list", help='Write each: {"key":…, "change":…} a line; - for stdout.', callback=writable
        ),
    ] = None,
    frozen: Frozen = False,
    json_file: JsonFile = None,
) -> None:
    """Compare two stores: keys added, removed, and changed by content hash, from the first to the second.

    Exit codes: 0 they hold the same; 1 they differ, or one cannot be read; 2 what was asked is wrong.
    """
    from rankport.runtime.store.comparing import differences
    from rankport.runtime.store.opening import open_store
    from rankport.sdk.cli.output.stores import shared_encoder, write_differences

    with (
        open_store(first, read_only=True, frozen=frozen) as before,
        open_store(second, read_only=True, frozen=frozen) as after,
    ):
        name = encoder or shared_encoder(before, after)
        found = differences(before.namespace(name), after.namespace(to_encoder or name))
        equal = write_differences(found, list_file, json_file)
    if not equal:
        raise typer.Exit(1)


def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="Token store to read.")],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="Token store to fill; made if it is not there.")
    ],
    encoder: Annotated[
        list[str] | None, typer.Option(help="Fingerprint; repeat it. [default: all that are published]")
    ] = None,
    kind: Annotated[
        Literal["lmdb", "snapshot", "dataset", "arrow", "lance"] | None,
        typer.Option(
            "--to",
            help="Kind of a directory that is made; a dataset is in Parquet. "
            "[default: by its end: .snapshot, .dataset or .parquet, .arrow, .lance, else lmdb]",
        ),
    ] = None,
    dtype: Annotated[
        Literal["float16", "float32", "int8"] | None,
        typer.Option(help="Keep the tokens so. [default: as they are]"),
    ] = None,
    frozen: Frozen = False,
    json_file: JsonFile = None,
) -> None:
    """Copy tokens from one store to another, of any kinds, and compare all of them bit for bit.

    A snapshot is seen once it is complete and compared, in one step, by running servers too. A copy that was killed
    goes on where it stopped. Items that TO alone has stay there, but for a snapshot, which is made as a whole.

    Exit codes: 0 copied; 1 a store failed, or values of FROM cannot be read (named); 2 what was asked is wrong.
    """
    from rankport.sdk.cli.output.stores import show_copy, write_copies
    from rankport.sdk.store_copies import copy_store, shown

    with show_copy() as on_progress:
        copies = copy_store(source, target, encoder, kind, dtype, frozen=frozen, on_progress=on_progress)
    write_copies(shown(target), copies, json_file)
    if any(report.unreadable for report in copies.values()):
        raise typer.Exit(1)


def compact(store: Location, json_file: JsonFile = None) -> None:
    """Give the space of deleted and rewritten items back to the disk. A store in LMDB; servers may read it meanwhile.

    It takes room for a copy beside the store. A job that writes to the store meanwhile ends: run it again.
    """
    from rankport.sdk.cli.output.stores import write_compaction
    from rankport.sdk.store_copies import compact as run

    write_compaction(store, run(store), json_file)


def publish(fingerprint: Fingerprint, store: Store) -> None:
    """Show the tokens of an encoder that were filled hidden, to running servers too, in one step."""
    from rankport.runtime.store.opening import open_store

    with open_store(store) as tokens:
        tokens.publish(fingerprint)
        count = len(tokens.namespace(fingerprint))
    typer.echo(
        f"{tokens.location}: {counted(count, 'item', ',')} of encoder {fingerprint} {be(count)} published"
    )


def drop(fingerprint: Fingerprint, store: Store) -> None:
    """Delete all tokens of an encoder; in LMDB `store compact` then frees the room.

    Rankers that are paired with it can read none from then on.
    """
    from rankport.runtime.store.lmdb_store.store import LmdbStore
    from rankport.sdk.store_copies import open_to_drop, shown

    with open_to_drop(store) as tokens:
        count = len(tokens.namespace(fingerprint, filling=True))
        tokens.drop(fingerprint)
    room = "; `store compact` frees the room" if isinstance(tokens, LmdbStore) else ""
    told = f"{counted(count, 'item', ',')} of encoder {fingerprint} {be(count)} dropped"
    typer.echo(f"{shown(store)}: {told}{room}")
