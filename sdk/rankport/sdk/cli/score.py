"""`rankport score`."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankport.protos.types import Item, Key, Prefix, ScoreResult

if TYPE_CHECKING:
    from rankport.runtime.ranker import Ranker
    from rankport.sdk.client import Client

_SHOWN_CHARACTERS = 100


def score(
    items: Annotated[list[str] | None, typer.Argument(help="Texts to score, or keys with --keys.")] = None,
    server: Annotated[str, typer.Option(metavar="HOST:PORT", help="Score at this server ...")] = "",
    bundle: Annotated[Path | None, typer.Option(help="... or with this bundle, in process.")] = None,
    store: Annotated[Path | None, typer.Option(help="Token store for --bundle and --keys.")] = None,
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
            help='One text a line; .jsonl: a text, {"key": ...}, {"token_ids": ...} or {"embeddings": ...}; - for '
            "stdin.",
        ),
    ] = None,
    keys: Annotated[bool, typer.Option("--keys", help="The items are keys of the token store.")] = False,
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut texts over a limit, and say so.")] = False,
    timeout_s: Annotated[float | None, typer.Option(help="Give up after this many seconds.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Score items against a prefix and print them best first.

    Exit codes: 0 scored, also if single items were not found or failed; 1 an error; 2 wrong usage.
    """
    wanted = _prefix(prefix, field or [])
    given = [*_arguments(items or [], keys), *(_read(items_file, keys) if items_file else [])]
    if not given:
        raise typer.BadParameter("no items: give them as arguments or with --items FILE")
    with _scorer(server, model, bundle, store) as scorer:
        result = scorer.score(wanted, given, timeout_s, truncation="truncate" if truncate else "error")
    if as_json:
        _print_json(given, result)
    else:
        _print_table(given, result)


@contextmanager
def _scorer(server: str, model: str, bundle: Path | None, store: Path | None) -> "Iterator[Client | Ranker]":
    if bool(server) == (bundle is not None):
        raise typer.BadParameter("give either --server or --bundle")
    if server:
        if store is not None:
            raise typer.BadParameter("--store goes with --bundle; a server has its own")
        from rankport.sdk.client import Client

        with Client(server, model) as client:
            yield client
        return
    from rankport.runtime.ranker import Ranker

    assert bundle is not None
    with Ranker.load(bundle, store=store) as ranker:
        yield ranker


def _prefix(prefix: str | None, fields: Sequence[str]) -> Prefix:
    if (prefix is None) == (not fields):
        raise typer.BadParameter("give either --prefix or --field NAME=TEXT")
    if prefix is not None:
        return prefix
    pairs = [entry.partition("=") for entry in fields]
    for name, separator, _ in pairs:
        if not separator:
            raise typer.BadParameter(f"--field {name!r} has no '=': give NAME=TEXT")
    return {name: text for name, _, text in pairs}


def _arguments(items: Sequence[str], keys: bool) -> list[Item]:
    return [Key(item) if keys else item for item in items]


def _read(path: str, keys: bool) -> list[Item]:
    import sys

    if path == "-":
        return _parse(sys.stdin, keys, jsonl=False, name="stdin")
    try:
        with Path(path).open(encoding="utf-8") as lines:
            return _parse(lines, keys, jsonl=path.endswith(".jsonl"), name=path)
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"--items {path}: {error}") from error


def _parse(lines: Iterable[str], keys: bool, *, jsonl: bool, name: str) -> list[Item]:
    texts = [(number, line.rstrip("\r\n")) for number, line in enumerate(lines, 1) if line.strip()]
    if not jsonl:
        return _arguments([text for _, text in texts], keys)
    return [_json_item(text, keys, f"{name}, line {number}") for number, text in texts]


def _json_item(line: str, keys: bool, where: str) -> Item:
    import json

    import numpy as np

    try:
        match json.loads(line):
            case str() as text:
                return Key(text) if keys else text
            case {"text": str() as text, **rest} if not rest:
                return text
            case {"key": str() as key, **rest} if not rest:
                return Key(key)
            case {"token_ids": list() as ids, **rest} if not rest:
                return np.array(ids, np.int64)
            case {"embeddings": list() as rows, **rest} if not rest:
                return np.array(rows, np.float32)
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"{where}: {error}") from error
    raise typer.BadParameter(
        f'{where}: {line[:_SHOWN_CHARACTERS]} is neither a text nor {{"text": …}}, {{"key": …}}, '
        f'{{"token_ids": …}} or {{"embeddings": …}}'
    )


def _ranking(result: ScoreResult) -> list[int]:
    """Indices of the items, best first, those without a score last."""
    import numpy as np

    return [int(index) for index in np.argsort(-result.scores, kind="stable")]  # NaN sorts last


def _label(item: Item) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, Key):
        return item.id
    import numpy as np

    return f"{'x'.join(map(str, np.shape(item)))} {'token ids' if np.ndim(item) == 1 else 'embeddings'}"


def _print_json(items: Sequence[Item], result: ScoreResult) -> None:
    import json
    from dataclasses import asdict

    def number(value: Any) -> float | None:
        return None if value != value else float(value)  # NaN is no JSON

    rows = [
        {
            "index": index,
            "item": _label(items[index]),
            "score": number(result.scores[index]),
            "logits": [number(logit) for logit in result.logits[index]],
            "status": result.status[index],
            "message": result.messages[index],
        }
        for index in _ranking(result)
    ]
    report = {"fingerprint": result.fingerprint, "usage": asdict(result.usage), "items": rows}
    print(json.dumps(report, indent=2, ensure_ascii=False))


def _print_table(items: Sequence[Item], result: ScoreResult) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("item", overflow="ellipsis", no_wrap=True, max_width=_SHOWN_CHARACTERS)
    table.add_column("status")
    for rank, index in enumerate(_ranking(result), 1):
        known = result.scores[index] == result.scores[index]
        status = ": ".join(filter(None, (result.status[index], result.messages[index])))
        row = (str(rank) if known else "-", f"{result.scores[index]:.6f}" if known else "-")
        table.add_row(*row, Text(_label(items[index])), Text(status), style=None if known else "yellow")
    console = Console()
    console.print(table)
    usage = result.usage
    console.print(
        f"prefix {usage.prefix_tokens_cached} tokens cached, {usage.prefix_tokens_computed} computed; items "
        f"{usage.item_tokens} tokens; tokenize {usage.tokenize_s * 1e3:.1f} ms, queue {usage.queue_s * 1e3:.1f} ms, "
        f"compute {usage.compute_s * 1e3:.1f} ms",
        highlight=False,
        soft_wrap=True,
    )
