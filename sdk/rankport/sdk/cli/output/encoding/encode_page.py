"""The page of an encode job: verdict, facts, lengths, rates over time, bad rows. One file, nothing is fetched."""

import html
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from rankport.protos.wording import counted
from rankport.runtime.jobs.encode_report import EncodeReport
from rankport.runtime.jobs.history import JobHistory
from rankport.runtime.jobs.rows.records import BadRow
from rankport.sdk.cli.output.report import svg
from rankport.sdk.cli.output.report.style import STYLE
from rankport.sdk.cli.output.run_facts import RunFacts
from rankport.sdk.cli.output.writing import write_file

_SLICES = 60  # of the time


def write_page(
    file: Path | None, report: EncodeReport, history: JobHistory, stored: int, failure: str, run: RunFacts
) -> None:
    """Writes the page, if a file is named."""
    if file is None:
        return
    write_file("--html", file, page(report, history, stored, failure, run))


def page(report: EncodeReport, history: JobHistory, stored: int, failure: str, run: RunFacts) -> str:
    """Makes the page as one self-contained HTML text."""
    verdict = f"Failed: {failure}" if failure else f"Done: {counted(stored, 'item', ',')} in the store."
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>Embedding tokens</title><style>{STYLE}</style>",
        "<h1>Embedding tokens</h1>",
        f"<div class='verdict{' bad' if failure else ''}'>{html.escape(verdict)}</div>",
        _facts(_facts_of(report, history, run)),
        "<h2>Plots</h2><div class=plots>",
        *_plots(history),
        "</div>",
        *_bad_rows(report, history),
    ]
    return "\n".join(parts) + "\n</html>\n"


def _facts_of(report: EncodeReport, history: JobHistory, run: RunFacts) -> Mapping[str, str]:
    share = history.encode_s / report.seconds if report.seconds else 0.0
    return {
        "rows read": f"{report.rows_read:,}",
        "encoded": f"{report.encoded:,} in {history.batches:,} batches, {report.items_per_s:,.1f} a second",
        "unchanged": f"{report.unchanged:,}",
        "cut to the limit": f"{report.truncated:,}",
        "bad rows": f"{report.bad_rows:,}",
        "deleted": f"{report.deleted:,}, as rows say",
        "pruned": f"{report.pruned:,}" + (f"; {report.prune_refused}" if report.prune_refused else ""),
        "time": f"{report.seconds:,.1f} s, {share:.0%} of it in the encoder",
        "padding": f"{history.padding_share:.1%} of the characters of a batch, were all as long as its longest",
        "command": run.command,
        "date": run.date,
        "machine": run.machine,
        "tools": run.tools_in_words,
    }


def _plots(history: JobHistory) -> list[str]:
    drawn = []
    if history.lengths:
        drawn.append(_lengths(history))
    if len(history.moments) > 1:
        drawn += [_rate(history), _rows(history)]
    return drawn


def _lengths(history: JobHistory) -> str:
    low, high = min(history.lengths), max(history.lengths)
    counts = [history.lengths[power] for power in range(low, high + 1)]
    x = svg.Scale.across(np.array([0.0, float(len(counts))]))
    y = svg.Scale.up(np.array([0.0, *counts], np.float64))
    names = [(place + 0.5, f"{2 ** (low + place)}") for place in range(len(counts))]
    body = [svg.axes(x, y, names), svg.bars(x, y, counts)]
    return svg.figure("Lengths", "texts encoded, by characters: at most so many", "characters", "texts", body)


def _rate(history: JobHistory) -> str:
    moments = history.moments
    step = max(1, len(moments) // _SLICES)
    ends = [*moments[:-1:step], moments[-1]]
    spans = [(before, after) for before, after in pairwise(ends) if after.seconds > before.seconds]
    middles = np.array([(before.seconds + after.seconds) / 2 for before, after in spans])
    rates = np.array(
        [(after.rows - before.rows) / (after.seconds - before.seconds) for before, after in spans]
    )
    x, y = svg.Scale.across(np.append(middles, 0.0)), svg.Scale.up(np.append(rates, 0.0))
    body = [svg.axes(x, y), svg.line(x(middles), y(rates), "of-source")]
    return svg.figure("Rate over time", "rows of all kinds that were done with", "seconds", "rows/s", body)


def _rows(history: JobHistory) -> str:
    seconds = np.array([moment.seconds for moment in history.moments])
    encoded = np.array([moment.encoded for moment in history.moments], np.float64)
    bad = np.array([moment.bad_rows for moment in history.moments], np.float64)
    x, y = svg.Scale.across(seconds), svg.Scale.up(np.concatenate([encoded, bad]))
    body = [svg.axes(x, y), svg.line(x(seconds), y(encoded), "of-source")]
    body.append(svg.line(x(seconds), y(bad), "limit"))
    return svg.figure("Rows so far", "stored after encoding; dashed red: bad rows", "seconds", "rows", body)


def _bad_rows(report: EncodeReport, history: JobHistory) -> list[str]:
    if not history.reasons:
        return []
    reasons = "".join(
        f"<tr><td>{html.escape(reason)}<td>{count:,}" for reason, count in history.reasons.most_common()
    )
    first = "".join(_bad_row(row) for row in report.first_bad_rows)
    return [
        "<h2>Bad rows by reason</h2>",
        f"<div class=scroll><table><tr><th>reason<th>rows</tr>{reasons}</table></div>",
        "<h2>First bad rows</h2>",
        f"<div class=scroll><table><tr><th>row<th>id<th>reason</tr>{first}</table></div>",
    ]


def _bad_row(row: BadRow) -> str:
    place = f"{row.file} {row.line}" if row.file else str(row.line)
    return "<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in (place, row.id or "–", row.reason))


def _facts(rows: Mapping[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{name}<dd>{html.escape(value)}" for name, value in rows.items()) + "</dl>"
