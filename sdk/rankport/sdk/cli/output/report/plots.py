"""The plots of a proof, of the values that it compared."""

import numpy as np

from rankport.exporters.proof.evidence import ERROR_EDGES, Evidence, LengthScores, Series
from rankport.runtime.bundle.manifest import Parity
from rankport.sdk.cli.output.report import svg


def plots(evidence: Evidence, parity: Parity) -> list[str]:
    """Draws what there are values of, the most telling first."""
    unit = evidence.unit
    drawn = []
    if evidence.owner is not None:
        drawn.append(_beside(evidence.owner, "Your pipeline against the bundle", "yours, transformed"))
    if evidence.parity is not None:
        drawn.append(_beside(evidence.parity, f"Source against bundle: {unit}s", f"source, {unit}"))
        drawn.append(_errors(evidence.parity, parity, unit))
    if evidence.drift is not None:
        drawn.append(
            _beside(evidence.drift, "Drift: the fp32 original against the bundle", f"original, {unit}")
        )
    if evidence.ndcg is not None:
        drawn.append(_ndcg(evidence.ndcg))
    if evidence.lengths is not None and np.ptp(evidence.lengths.tokens):  # embedding tokens are of one length
        drawn.append(_lengths(evidence.lengths))
    return drawn


def _beside(series: Series, title: str, x_name: str) -> str:
    both = np.concatenate([series.source, series.bundle])
    x, y = svg.Scale.across(both), svg.Scale.up(both)
    ends = np.array([both.min(), both.max()]) if len(both) else np.zeros(2)
    body = [
        svg.axes(x, y),
        svg.line(x(ends), y(ends), "identity"),
        svg.points(x(series.source), y(series.bundle)),
    ]
    note = f"{_drawn(len(series.source), series.total)}; on the line they are equal"
    return svg.figure(title, note, x_name, "bundle", body)


def _errors(series: Series, parity: Parity, unit: str) -> str:
    """Draws counts of errors in half decades."""
    counts = list(series.error_counts)
    used = [index for index, count in enumerate(counts) if count]
    limit = parity.max_abs_tolerance
    wanted = [] if not limit else [int(np.searchsorted(ERROR_EDGES, limit, side="right")) - 1]
    first, last = min([*used, *wanted], default=0), max([*used, *wanted], default=1) + 1
    x, y = svg.Scale.across(np.array([0, last - first])), svg.Scale.up(np.array([0, max(counts, default=1)]))
    names = [
        (float(index), _power(float(ERROR_EDGES[first + index])))
        for index in range(last - first + 1)
        if (first + index) % 2 == 0
    ]
    body = [svg.axes(x, y, names), svg.bars(x, y, counts[first:last])]
    if limit:
        place = 2 * (np.log10(limit) - np.log10(ERROR_EDGES[first]))
        body.append(svg.upright(float(x(float(place))), f"limit {limit:.1e}"))
        note = f"{series.total:,} {unit}s, all modes"
    else:
        note = f"{series.total:,} {unit}s, all modes; the limit is of a mode's relative error, see above"
    return svg.figure("Errors", note, f"|bundle − source| of a {unit}", "count", body)


def _ndcg(series: Series) -> str:
    order = np.argsort(series.source, kind="stable")
    source, bundle = series.source[order], series.bundle[order]
    places = np.arange(len(order), dtype=np.float64)
    x, y = svg.Scale.across(places), svg.Scale.up(np.array([0.0, 1.0]))
    changed = series.errors[order] > 1e-9
    body = [
        svg.axes(x, y),
        svg.line(x(places), y(source), "of-source"),
        svg.points(x(places[~changed]), y(bundle[~changed]), "dots faint"),
        svg.points(x(places[changed]), y(bundle[changed]), "dots odd"),
    ]
    note = f"line: source, dots: bundle; {int(changed.sum())} of {len(order)} differ (red)"
    return svg.figure(
        "NDCG@10 of each judged request", note, "requests, by the source's NDCG", "NDCG@10", body
    )


def _lengths(lengths: LengthScores) -> str:
    x = svg.Scale.across(lengths.tokens.astype(np.float64))
    y = svg.Scale.up(lengths.scores)
    groups = np.array_split(
        np.argsort(lengths.tokens, kind="stable"), max(1, min(8, len(lengths.tokens) // 5))
    )
    middles = np.array([np.median(lengths.tokens[group]) for group in groups if len(group)])
    medians = np.array([np.median(lengths.scores[group]) for group in groups if len(group)])
    body = [
        svg.axes(x, y),
        svg.points(x(lengths.tokens.astype(np.float64)), y(lengths.scores), "dots faint"),
        svg.line(x(middles), y(medians), "of-source"),
    ]
    kept = f"{len(lengths.tokens):,} of " if len(lengths.tokens) < lengths.total else ""
    note = f"{kept}{lengths.total:,} items; line: median of items of like length"
    return svg.figure(
        "Scores by length of the item", note, "tokens of the item, prompt included", "score", body
    )


def _drawn(kept: int, total: int) -> str:
    return f"{total:,} values" if kept == total else f"{kept:,} of {total:,} values, the worst among them"


def _power(value: float) -> str:
    return f"1e{round(np.log10(value)):d}"
