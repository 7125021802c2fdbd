"""`LoadReport`: what a load test measured and how, printed, as JSON and as a page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from rankport.protos.wording import counted
from rankport.sdk.cli.output.consoles import plain_console
from rankport.sdk.cli.output.loadtest.page import page
from rankport.sdk.cli.output.loadtest.words import (
    classes_in_words,
    rate_in_words,
    reasons_in_words,
    rows_in_words,
    statuses_in_words,
    time_in_words,
    warnings,
)
from rankport.sdk.cli.output.run_facts import RunFacts
from rankport.sdk.cli.output.writing import write_file, write_json
from rankport.sdk.loadtest.config import Aim, LoadConfig
from rankport.sdk.loadtest.requests import LoadRequest
from rankport.sdk.loadtest.result import PERCENTILES, LoadResult


@dataclass(frozen=True, slots=True)
class LoadReport:
    """A load test."""

    target: str
    shape: str  # of the requests, in words
    config: LoadConfig
    aim: Aim | None  # of a search
    best: LoadResult | None  # the rate that counts; None where no rate kept to the aim
    runs: Sequence[LoadResult]  # all rates, in their order
    run: RunFacts

    @classmethod
    def of(
        cls,
        target: str,
        requests: Sequence[LoadRequest],
        config: LoadConfig,
        aim: Aim | None,
        best: LoadResult | None,
        runs: Sequence[LoadResult],
    ) -> "LoadReport":
        """Describes a test that this process made."""
        items = sum(request.items for request in requests) / len(requests)
        nbytes = sum(len(request.body) for request in requests) / len(requests)
        shape = (
            f"{counted(len(requests), 'request', ',')} in turn, {items:.4g} items and {nbytes:,.0f} bytes on "
            "average"
        )
        return cls(target, shape, config, aim, best, runs, RunFacts.of_this())

    @property
    def verdict(self) -> str:
        """Says in a sentence what was found."""
        if self.aim is None:
            run = self.runs[-1]
            which, result = ("interactive ", run.of_class("interactive")) if run.classes else ("", run)
            half, most = (time_in_words(result.percentile_s(percent)) for percent in (50, 99))
            return (
                f"At {rate_in_words(run.rate)} half of the {which}requests took {half} at most, and 99 % {most}; "
                f"{result.failed_share:.2%} failed."
            )
        limit = time_in_words(self.aim.p99_s)
        if self.best is None:
            return (
                f"No rate keeps p99 at {limit}: {rate_in_words(min(run.rate for run in self.runs))} has more."
            )
        return (
            f"The highest rate with p99 at {limit} or less is {rate_in_words(self.best.rate)} "
            f"({self.best.items / self.best.duration_s:,.0f} items/s)."
        )

    @property
    def facts(self) -> Mapping[str, str]:
        """Lists what was done, for people."""
        config = self.config
        return {
            "target": self.target,
            "requests": self.shape,
            "priority": classes_in_words(config),
            "arrivals": f"{config.arrivals}, {config.duration_s:g} s measured after {config.warm_up_s:g} s",
            "timeout": time_in_words(config.timeout_s),
            "date": self.run.date,
            "machine that loads": self.run.machine,
            "command": self.run.command,
        }

    def as_json(self) -> dict[str, object]:
        """Makes JSON of all figures."""
        return {
            "target": self.target,
            "requests": self.shape,
            "config": asdict(self.config),
            "aim": None if self.aim is None else asdict(self.aim),
            "best": None if self.best is None else self.best.as_json(),
            "runs": [result.as_json() for result in self.runs],
            "run": asdict(self.run),
        }


def write_report(report: LoadReport, html: Path | None, json_file: Path | None) -> None:
    """Prints the figures, and writes the files that are named."""
    _print(report, plain_console(stderr="-" in (str(json_file), str(html))))
    write_json(json_file, report.as_json())
    if html is not None:
        shown = report.best or report.runs[-1]
        write_file("--html", html, page(report.verdict, report.facts, shown, report.runs, report.aim))


def _print(report: LoadReport, console: Console) -> None:
    shown = report.best or report.runs[-1]
    console.print(report.verdict, soft_wrap=True, highlight=False)
    names = ("rate", "answered", "failed", *(_name(percent) for percent in PERCENTILES))
    # Within 80 columns.
    table = Table(*names, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    runs = report.runs if report.aim is None else sorted(report.runs, key=lambda run: run.rate)
    for name, result in rows_in_words(runs):
        latencies = (time_in_words(result.percentile_s(percent)) for percent in PERCENTILES)
        table.add_row(name, rate_in_words(result.goodput), f"{result.failed_share:.2%}", *latencies)
    console.print(table)
    console.print(f"ended: {statuses_in_words(shown)}", soft_wrap=True, highlight=False)
    for reason in reasons_in_words(shown):
        console.print(reason, style="dim", soft_wrap=True, highlight=False, markup=False)
    for warning in warnings(shown):
        console.print(f"warning: {warning}", style="bold yellow", soft_wrap=True, highlight=False)


def _name(percent: float) -> str:
    return "max" if percent == 100 else f"p{percent:g}"
