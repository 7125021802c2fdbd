"""`rankport rank`."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.sets import SetRanking, rank_arguments
from rankport.sdk.cli.flags.lines import each_line, filled_lines, json_of
from rankport.sdk.cli.flags.model import opened_model, timeout_of
from rankport.sdk.cli.flags.priority import PriorityFlag
from rankport.sdk.cli.output.values import number
from rankport.sdk.cli.output.writing import writing
from rankport.sdk.client import Client


def rank(
    requests: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help='JSONL: {"history": {"item": [7]}, "candidates": {"item": [1, 2]}}, and times, now, sessions, '
            "head_weights, top_k, id; null for a missing number; - for stdin.",
        ),
    ],
    server: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Rank at this server ...")] = None,
    bundle: Annotated[Path | None, typer.Option(help="... or with this bundle, in process.")] = None,
    model: Annotated[str, typer.Option(help="Which of the server's models, if it has several.")] = "",
    store: Annotated[str | None, typer.Option(help="With --bundle: token store for keys.")] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Places of the order, where a line says none.")
    ] = None,
    timeout_s: Annotated[float | None, typer.Option(help="Give up a line after this many seconds.")] = None,
    priority: PriorityFlag = "interactive",
) -> None:
    """Rank sets of candidates, each together, behind a history: one JSON object a line, best first.

    Exit codes: 0 ranked; 2 what was asked is wrong; 1 anything else.
    """
    limit_s = timeout_of(timeout_s)
    lines = each_line(requests, "FILE") if requests == "-" else filled_lines(requests, "FILE")
    given = ((number, _read(line, number)) for number, line in enumerate(lines, 1) if line.strip())
    asked = given if requests == "-" else list(given)  # a file is read whole before a model is loaded
    load = partial(_loaded, store=store)
    with opened_model(server, model, bundle, load, store, priority) as opened:
        ask = opened.rank_set if isinstance(opened, Client) else opened
        for number, (name, request) in asked:
            _write(name, _asked(ask, {"top_k": top_k} | request, number, limit_s))


def _asked(
    ask: Callable[..., SetRanking], request: Mapping[str, Any], number: int, limit_s: float | None
) -> SetRanking:
    try:
        return ask(**request, timeout_s=limit_s)
    except (InvalidRequest, NotFound) as error:
        raise type(error)(f"line {number}: {error}") from None


def _read(line: str, number: int) -> tuple[object, dict[str, Any]]:
    """Reads the id of a line, and what is asked."""
    row = json_of(line, f"line {number}")
    name = row.pop("id", None) if isinstance(row, dict) else None
    try:
        return name, rank_arguments(row)
    except InvalidRequest as error:
        raise InvalidRequest(f"line {number}: {error}") from None


def _write(name: object, ranking: SetRanking) -> None:
    places = ranking.order.tolist()
    told: dict[str, Any] = {} if name is None else {"id": name}
    told["order"] = places
    told["scores"] = list(map(number, ranking.scores[places]))
    told["heads"] = {head: list(map(number, ranking.head(head)[places])) for head in ranking.heads}
    told["events_kept"] = ranking.usage.prefix_tokens_cached
    with writing("standard output"):
        typer.echo(json.dumps(told, ensure_ascii=False))


@contextmanager
def _loaded(bundle: Path, store: str | None) -> Iterator[Callable[..., SetRanking]]:
    from rankport.runtime.kinds.set_ranker.set_ranker import SetRanker

    with SetRanker.load(bundle, store=store) as ranker:
        yield ranker.rank
