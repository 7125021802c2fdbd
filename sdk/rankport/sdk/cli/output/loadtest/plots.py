"""Plots of a load test: latencies by share, over time, and by rate."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rankport.sdk.cli.output.report import svg
from rankport.sdk.loadtest.config import Aim
from rankport.sdk.loadtest.result import LoadResult

_MOST_POINTS = 2000
_SLICES = 40
_NINES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)


def plots(shown: LoadResult, runs: Sequence[LoadResult], aim: Aim | None) -> list[str]:
    """Draws what there are values of."""
    drawn = []
    if shown.answered.any():
        drawn += [_shares(shown, aim), _over_time(shown)]
    answered = [result for result in runs if result.answered.any()]
    if len(answered) > 1:
        drawn.append(_by_rate(answered, aim))
    return drawn


def _shares(result: LoadResult, aim: Aim | None) -> str:
    latencies = np.sort(result.latency_s[result.answered]) * 1000
    share = (np.arange(len(latencies)) + 0.5) / len(latencies)
    kept = _thinned(len(latencies))
    places = -np.log10(1 - share[kept])
    names = [
        (float(-np.log10(1 - nine)), f"{nine:.6g}")
        for nine in _NINES
        if -np.log10(1 - nine) <= places[-1] + 0.1
    ]
    x = svg.Scale.across(np.array([0.0, float(places[-1])]))
    y = svg.Scale.up(np.append(latencies, 0.0))
    body = [svg.axes(x, y, names), svg.line(x(places), y(latencies[kept]), "of-source")]
    note = f"{len(latencies):,} answered requests; each step right is a tenth of those slower"
    if aim is not None:
        body.append(svg.upright(float(x(2.0)), "p99"))
    return svg.figure("Latency that a share of the requests kept", note, "share", "ms", body)


def _over_time(result: LoadResult) -> str:
    answered = result.answered
    due, latencies = result.due_s[answered], result.latency_s[answered] * 1000
    x, y = svg.Scale.across(result.due_s), svg.Scale.up(np.append(latencies, 0.0))
    kept = _thinned(len(due))
    body = [svg.axes(x, y), svg.points(x(due[kept]), y(latencies[kept]), "dots faint")]
    failed = result.due_s[~answered]
    if len(failed):
        body.append(svg.points(x(failed), y(np.zeros(len(failed))), "dots odd"))
    middles, medians = _medians(due, latencies)
    body.append(svg.line(x(middles), y(medians), "of-source"))
    note = "dots: requests by when they were due; line: median; red at the foot: not answered"
    return svg.figure("Latency over time", note, "seconds", "ms", body)


def _by_rate(runs: Sequence[LoadResult], aim: Aim | None) -> str:
    ordered = sorted(runs, key=lambda run: run.rate)
    rates = np.array([result.rate for result in ordered])
    p99, p50 = (
        np.array([result.percentile_s(percent) * 1000 for result in ordered]) for percent in (99.0, 50.0)
    )
    # A rate that is far too high would leave the others on one line.
    top = float(p99.max()) if aim is None else min(float(p99.max()), 3000 * aim.p99_s)
    x, y = svg.Scale.across(rates), svg.Scale.up(np.array([0.0, top]))
    high, low = np.minimum(p99, top), np.minimum(p50, top)
    body = [svg.axes(x, y), svg.line(x(rates), y(low), "identity"), svg.line(x(rates), y(high), "of-source")]
    body.append(svg.points(x(rates), y(high)))
    if aim is not None:
        ends = np.array([rates[0], rates[-1]])
        body.append(svg.line(x(ends), y(np.full(2, aim.p99_s * 1000)), "limit"))
    return svg.figure(
        "Latency by rate", "p99, and dashed p50; red: what was asked for", "requests/s", "ms", body
    )


def _thinned(count: int) -> NDArray[np.int64]:
    """Picks places of at most so many points, the last of all among them."""
    return np.unique(np.linspace(0, count - 1, min(count, _MOST_POINTS)).round().astype(np.int64))


def _medians(due: NDArray[np.float64], latencies: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    groups = np.array_split(np.arange(len(due)), max(1, min(_SLICES, len(due) // 5)))
    return tuple(np.array([np.median(values[group]) for group in groups]) for values in (due, latencies))
