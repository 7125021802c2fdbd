"""Plots of a membership audit: ROC at low rates, each attack with its interval, the most telling features."""

import numpy as np

from rankport.sdk.cli.output.membership.words import telling_features
from rankport.sdk.cli.output.report import svg
from rankport.sdk.membership.report import Feature, MembershipReport
from rankport.sdk.membership.roc import Curve

_SHOWN_FEATURES = 4
_BINS = 24
_MOST_POINTS = 600


def plots(report: MembershipReport) -> list[str]:
    """Draws them all."""
    return [_roc(report), _aucs(report), *map(_feature, telling_features(report)[:_SHOWN_FEATURES])]


def _roc(report: MembershipReport) -> str:
    others = report.non_members.users
    x = svg.Scale.across(np.array([-np.log10(others), 0.0]))
    y = svg.Scale.up(np.array([0.0, 1.0]))
    decades = [(-float(power), f"{10.0**-power:g}") for power in range(int(np.log10(others)), -1, -1)]
    chance = np.linspace(-np.log10(others), 0.0, 60)
    body = [
        svg.axes(x, y, decades),
        svg.line(x(chance), y(10**chance), "identity"),
        _line(report.control.curve, others, x, y, "limit"),
        _line(report.strongest.figures.curve, others, x, y, "of-source"),
    ]
    note = f"{report.strongest.name}; red: control, the texts alone; dashed: chance"
    return svg.figure("ROC", note, "false positives, of non-members", "true positives, of members", body)


def _line(curve: Curve, others: int, x: svg.Scale, y: svg.Scale, kind: str) -> str:
    """Draws steps from one false positive on."""
    rates = np.geomspace(1 / others, 1.0, _MOST_POINTS)
    places = np.searchsorted(curve.false, rates + 1e-12, side="right") - 1
    return svg.line(x(np.log10(rates)), y(curve.true[places]), kind)


def _aucs(report: MembershipReport) -> str:
    rows = [(attack.name, attack.figures.auc) for attack in report.attacks]
    rows.append(("control", report.control.auc))
    limit = report.config.max_auc
    ends = [end for _, auc in rows for end in (auc.low, auc.high)] + [
        0.5,
        *([] if limit is None else [limit]),
    ]
    x, y = svg.Scale.across(np.array(ends)), svg.Scale.up(np.array([0.0, float(len(rows))]))
    body = [svg.axes(x, y)]
    half = np.array([0.5, 0.5])
    body.append(svg.line(x(half), y(np.array([0.0, len(rows)])), "identity"))
    for place, (_, auc) in enumerate(rows):
        height = y(np.full(2, len(rows) - place - 0.5))
        body.append(svg.line(x(np.array([auc.low, auc.high])), height, "of-source"))
        body.append(svg.points(x(np.array([auc.value])), height[:1]))
    if limit is not None:
        body.append(svg.upright(float(x(limit)), f"limit {limit:g}"))
    names = ", ".join(name.removeprefix("the ") for name, _ in rows)
    return svg.figure("AUC with intervals of 95 %", f"from above: {names}", "AUC", "", body)


def _feature(feature: Feature) -> str:
    both = np.concatenate([feature.members, feature.others])
    edges = np.linspace(float(both.min()), float(both.max()) + 1e-12, _BINS + 1)
    ours, theirs = (np.histogram(side, edges)[0] / len(side) for side in (feature.members, feature.others))
    x, y = svg.Scale.across(edges), svg.Scale.up(np.array([0.0, float(max(ours.max(), theirs.max()))]))
    body = [svg.axes(x, y)]
    for shares, kind in ((theirs, "identity"), (ours, "of-source")):
        body.append(svg.line(x(np.repeat(edges, 2)[1:-1]), y(np.repeat(shares, 2)), kind))
    note = f"orange: members, dashed: non-members; AUC {feature.auc}"
    return svg.figure(feature.name, note, feature.name, "share of users", body)
