"""`rankport loadtest`."""

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from rankport.sdk.cli.flags.connection import tls_of, token_of
from rankport.sdk.cli.flags.dataclass_options import filled, flags_of, takes
from rankport.sdk.cli.flags.written import writable
from rankport.sdk.loadtest.config import Aim, LoadConfig
from rankport.sdk.loadtest.requests import LoadRequest
from rankport.sdk.loadtest.result import LoadResult
from rankport.sdk.loadtest.run import LoadTarget, Tell, run_rate
from rankport.sdk.loadtest.search import find_rate, keeps

_UNITS = {"ms": 1e-3, "s": 1.0, "": 1.0}
_DRAWN = 1000  # requests that are made before the test, and sent over and over
_PER_REQUEST = 20


def _seconds(text: object) -> object:
    """Reads 200ms, 0.2s or a number of seconds."""
    matched = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|)\s*", text) if isinstance(text, str) else None
    if matched is None:
        raise typer.BadParameter(f"{text!r} is no time: give 200ms or 0.2s")
    return float(matched[1]) * _UNITS[matched[2]]


@takes(*flags_of(LoadConfig, panel="Load"))
def loadtest(
    server: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Load this gRPC server ...")] = None,
    url: Annotated[str | None, typer.Option(help="... or this http:// address, POST.")] = None,
    model: Annotated[str, typer.Option(help="Which of the server's models, if it has several.")] = "",
    requests: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='A request a line: {"prefix": ..., "items": [...]} as in files of judged requests, {"texts": [...]} '
            'to encode, or {"history": ..., "candidates": ...} to rank; with --url the bodies as they are sent.',
        ),
    ] = None,
    prefixes: Annotated[
        str | None, typer.Option(metavar="FILE", help="Draw requests: a prefix of this file, one a line, ...")
    ] = None,
    items: Annotated[
        str | None, typer.Option(metavar="FILE", help="... and items of this one, texts or keys (--keys).")
    ] = None,
    per_request: Annotated[
        int | None, typer.Option(min=1, help="Items of a request that is drawn. [default: 20]")
    ] = None,
    keys: Annotated[
        bool, typer.Option("--keys", help="The items are keys of the server's token store.")
    ] = False,
    search: Annotated[
        bool,
        typer.Option("--find-rate", help="Find the highest rate whose p99 is at most --p99, from --rate on."),
    ] = False,
    p99: Annotated[
        Any, typer.Option(parser=_seconds, metavar="TIME", help="Latency for --find-rate: 200ms, 0.2s.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with plots.", callback=writable)
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Write the figures; - for standard output.", callback=writable
        ),
    ] = None,
    **given: Any,
) -> None:
    """Load a server and tell what its users would have waited.

    Requests arrive at --rate whether or not those before are answered, and a latency counts from the moment a request
    was due: a server that stalls is charged for all that would have come meanwhile. Latencies are those of answered
    requests; the others are counted by status. RANKPORT_TOKEN and RANKPORT_TLS_CA say what other commands read there.

    Exit codes: 0 measured, with --find-rate also found; 1 no rate keeps to --p99, or nothing was answered; 2 what was
    asked is wrong.
    """
    from rankport.sdk.cli.output.loadtest.report import LoadReport, write_report

    config = filled(LoadConfig, given)
    if search != (p99 is not None):
        raise typer.BadParameter("--find-rate and --p99 go together")
    aim = Aim(p99) if search else None
    sent = _requests(requests, prefixes, items, per_request, keys, model, url, config.seed)
    found = asyncio.run(_run(_Job(server, url, sent, config, aim)))
    report = LoadReport.of(server or url or "", sent, config, aim, *found)
    write_report(report, html, json_file)
    if report.best is None or not report.best.answered.any():
        raise typer.Exit(1)


def _requests(
    requests: Path | None,
    prefixes: str | None,
    items: str | None,
    per_request: int | None,
    keys: bool,
    model: str,
    url: str | None,
    seed: int,
) -> list[LoadRequest]:
    from rankport.sdk.loadtest.requests import drawn_requests, read_bodies, read_requests

    if requests is not None:
        if prefixes is not None or items is not None:
            raise typer.BadParameter("--requests has whole requests: leave --prefixes and --items out")
        if keys or per_request is not None:
            raise typer.BadParameter(
                "--keys and --per-request are of requests that are drawn: leave them out"
            )
        if url is not None and model:
            raise typer.BadParameter(
                "--url sends bodies as they are, which name their model: leave --model out"
            )
        return read_requests(requests, model) if url is None else read_bodies(requests)
    if prefixes is None or items is None:
        raise typer.BadParameter("give --requests, or both --prefixes and --items to draw requests of")
    if url is not None:
        raise typer.BadParameter(
            "--url sends the bodies of --requests: requests are drawn for --server alone"
        )
    return drawn_requests(
        _lines(prefixes, "--prefixes"),
        _lines(items, "--items"),
        per_request or _PER_REQUEST,
        keys=keys,
        model=model,
        seed=seed,
        count=_DRAWN,
    )


def _lines(path: str, option: str) -> list[str]:
    from rankport.sdk.cli.flags.lines import filled_lines

    return [line.strip() for line in filled_lines(path, option) if line.strip()]


@dataclass(frozen=True, slots=True)
class _Job:
    server: str | None
    url: str | None
    requests: Sequence[LoadRequest]
    config: LoadConfig
    aim: Aim | None

    def target(self) -> LoadTarget:
        """Opens the server under load."""
        from rankport.sdk.loadtest.grpc_target import GrpcTarget
        from rankport.sdk.loadtest.http_target import HttpTarget

        if (self.server is None) == (self.url is None):
            raise typer.BadParameter("give either --server or --url")
        token, tls = token_of(os.environ), tls_of(os.environ)
        if self.server is not None:
            config = self.config
            return GrpcTarget(self.server, config.connections, config.timeout_s, token=token, tls=tls)
        assert self.url is not None
        return HttpTarget(self.url, self.config.timeout_s, token=token, tls=tls)


async def _run(job: _Job) -> tuple[LoadResult | None, list[LoadResult]]:
    """Runs one rate, or those of a search; gives the one that counts, and all."""
    from rankport.sdk.cli.output.loadtest.progress import load_progress

    target = job.target()
    try:
        with load_progress(job.config) as shown:

            async def run(rate: float, tell: Tell = shown.tell) -> LoadResult:
                return await run_rate(target, job.requests, rate, job.config, tell)

            if job.aim is None:
                result = await run(job.config.rate)
                return result, [result]

            async def step(rate: float) -> LoadResult:
                result = await run(rate)
                assert job.aim is not None
                shown.ended(result, keeps(result, job.aim))
                return result

            return await find_rate(step, job.config.rate, job.aim)
    finally:
        await target.close()
