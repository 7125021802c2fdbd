"""`rankport score`."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from rankport.protos.ranking import WeighingRanks
from rankport.protos.types import Prefix, Truncation
from rankport.sdk.cli.flags.model import opened_model, timeout_of
from rankport.sdk.cli.flags.priority import PriorityFlag
from rankport.sdk.cli.flags.written import Format, writable, written_format


def score(
    items: Annotated[list[str] | None, typer.Argument(help="Texts to score, or keys with --keys.")] = None,
    server: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Score at this server ...")] = None,
    bundle: Annotated[Path | None, typer.Option(help="... or with this bundle, in process.")] = None,
    store: Annotated[str | None, typer.Option(help="Token store for --bundle and --keys.")] = None,
    frozen: Annotated[
        bool,
        typer.Option("--frozen", help="Read --store without a lock: nobody writes to it while it is open."),
    ] = False,
    model: Annotated[str, typer.Option(help="Which of the server's models, if it has several.")] = "",
    prefix: Annotated[str | None, typer.Option(help="Text of the prompt's only field.")] = None,
    field: Annotated[
        list[str] | None, typer.Option(metavar="NAME=TEXT", help="A field of the prompt; repeat for more.")
    ] = None,
    items_file: Annotated[
        str | None,
        typer.Option(
            "--items",
            metavar="FILE",
            help='One text a line; .jsonl: a text, {"text": ...}, {"key": ...}, also with its "text", '
            '{"token_ids": ...} or {"embeddings": ...}, with "features": {"name": number} where the model weighs some; '
            "- for stdin, JSONL if its first "
            "line is an object.",
        ),
    ] = None,
    keys: Annotated[bool, typer.Option("--keys", help="The items are keys of the token store.")] = False,
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut texts over a limit, and say so.")] = False,
    on_missing: Annotated[
        Literal["skip", "fail", "encode"],
        typer.Option(
            help='Keys that the store lacks: their status says so, nothing is scored, or --server encodes the "text" '
            "beside the key."
        ),
    ] = "skip",
    timeout_s: Annotated[float | None, typer.Option(help="Give up after this many seconds.")] = None,
    priority: PriorityFlag = "interactive",
    top_k: Annotated[int | None, typer.Option(min=1, help="Only the first so many. [default: all]")] = None,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format", help="How they are written. [default: by the ending of --out, else a table]"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write to this file, .csv or .json, instead of standard output.",
            callback=writable,
        ),
    ] = None,
) -> None:
    """Score items against a prefix and print them best first: rank, item or key, score, status.

    Works for bundles of every kind that scores. Equal scores keep the order given; items without a score come last.

    Exit codes: 0 scored, also if single items were not found or failed; 2 what was asked is wrong; 1 anything else.
    """
    from rankport.sdk.cli.flags.items import feature_columns, from_arguments, from_file
    from rankport.sdk.cli.output.results.score import write_ranking

    written = written_format(form, as_json, out)
    limit_s = timeout_of(timeout_s)
    wanted = _prefix(prefix, field or [])
    given = [*from_arguments(items or [], keys), *(from_file(items_file, keys) if items_file else [])]
    if not given:
        raise typer.BadParameter("no items: give them as arguments or with --items FILE")
    if frozen and store is None:
        raise typer.BadParameter("--frozen goes with --store")
    truncation: Truncation = "truncate" if truncate else "error"
    load = partial(_loaded, store=store, frozen=frozen)
    with opened_model(server, model, bundle, load, store, priority) as scorer:
        ranking = scorer.rank(
            wanted,
            [each.item for each in given],
            top_k,
            return_items=True,
            timeout_s=limit_s,
            truncation=truncation,
            on_missing=on_missing,
            features=feature_columns(given),
        )
    write_ranking(ranking, written, out)


@contextmanager
def _loaded(bundle: Path, store: str | None, frozen: bool) -> Iterator[WeighingRanks]:
    from rankport.runtime.kinds.scorer import Scorer
    from rankport.runtime.store.opening import open_store

    with ExitStack() as opened:
        tokens = None
        if store is not None:
            tokens = opened.enter_context(open_store(store, read_only=True, frozen=frozen))
        yield opened.enter_context(Scorer.load(bundle, tokens))


def _prefix(prefix: str | None, fields: Sequence[str]) -> Prefix:
    if (prefix is None) == (not fields):
        raise typer.BadParameter(
            "give either --prefix ('' where the prompt has no fields) or --field NAME=TEXT"
        )
    if prefix is not None:
        return prefix
    pairs = [entry.partition("=") for entry in fields]
    for name, separator, _ in pairs:
        if not separator:
            raise typer.BadParameter(f"--field {name!r} has no '=': give NAME=TEXT")
    names = [name for name, _, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise typer.BadParameter(f"--field {name!r} is given {names.count(name)} times: give it once")
    return {name: text for name, _, text in pairs}
