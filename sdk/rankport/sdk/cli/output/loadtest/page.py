"""The page of a load test: verdict, facts, figures, plots. One file, nothing is fetched."""

import html
from collections.abc import Mapping, Sequence

from rankport.sdk.cli.output.loadtest.plots import plots
from rankport.sdk.cli.output.loadtest.words import (
    rate_in_words,
    reasons_in_words,
    rows_in_words,
    statuses_in_words,
    time_in_words,
    warnings,
)
from rankport.sdk.cli.output.report.style import STYLE
from rankport.sdk.loadtest.config import Aim
from rankport.sdk.loadtest.result import PERCENTILES, LoadResult

_MOST_FAILED = 0.001  # share, beyond which the verdict is red


def page(
    verdict: str, facts: Mapping[str, str], shown: LoadResult, runs: Sequence[LoadResult], aim: Aim | None
) -> str:
    """Makes the page as one self-contained HTML text; `shown` is the rate whose requests are drawn."""
    bad = shown.failed_share > _MOST_FAILED
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>Load test of {html.escape(facts['target'])}</title><style>{STYLE}</style>",
        f"<h1>Load test of {html.escape(facts['target'])}</h1>",
        f"<div class='verdict{' bad' if bad else ''}'>{html.escape(verdict)}</div>",
        *(f"<div class='verdict bad'>Warning: {html.escape(warning)}</div>" for warning in warnings(shown)),
        "<p>Latencies count from the moment a request was due, whether or not those before it were answered.</p>",
        "<dl>"
        + "".join(f"<dt>{html.escape(name)}<dd>{html.escape(value)}" for name, value in facts.items())
        + "</dl>",
        "<h2>Rates</h2>",
        _table(sorted(runs, key=lambda run: run.rate)),
        *(f"<p>{html.escape(reason)}" for reason in reasons_in_words(shown)),
        f"<h2>Plots at {rate_in_words(shown.rate)}</h2><div class=plots>",
        *plots(shown, runs, aim),
        "</div>",
    ]
    return "\n".join(part for part in parts if part) + "\n</html>\n"


def _table(runs: Sequence[LoadResult]) -> str:
    names = [
        "rate",
        "answered",
        *("max" if percent == 100 else f"p{percent:g}" for percent in PERCENTILES),
        "ended",
    ]
    head = "".join(f"<th>{name}" for name in names)
    return f"<div class=scroll><table><tr>{head}</tr>{''.join(_row(*row) for row in rows_in_words(runs))}</table></div>"


def _row(name: str, result: LoadResult) -> str:
    cells = [name, rate_in_words(result.goodput)]
    cells += [time_in_words(result.percentile_s(percent)) for percent in PERCENTILES]
    cells.append(statuses_in_words(result))
    return "<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in cells) + "</tr>"
