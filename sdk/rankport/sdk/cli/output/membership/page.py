"""The page of a membership audit: verdict, facts, figures, plots. One file, nothing is fetched."""

import html
from collections.abc import Sequence

from rankport.sdk.cli.output.membership.plots import plots
from rankport.sdk.cli.output.membership.words import (
    HEADINGS,
    attack_rows,
    facts,
    null_rows,
    telling_features,
)
from rankport.sdk.cli.output.report.style import STYLE
from rankport.sdk.cli.output.run_facts import RunFacts
from rankport.sdk.membership.report import MembershipReport

NULL_HEADINGS = ("", "mean AUC", "highest", "intervals that hold .5", "interval widened by")


def page(report: MembershipReport, run: RunFacts) -> str:
    """Makes the page as one self-contained HTML text."""
    verdicts = report.failures or (report.verdict,)
    about = {**facts(report), "date": run.date, "command": run.command, "tools": run.tools_in_words}
    features = [(feature.name, str(feature.auc)) for feature in telling_features(report)]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>Membership audit</title><style>{STYLE}</style><h1>Membership audit</h1>",
        *(
            f"<div class='verdict{'' if report.passed else ' bad'}'>{html.escape(line)}</div>"
            for line in verdicts
        ),
        *(f"<p>Note: {html.escape(note)}.</p>" for note in report.notes),
        "<dl>"
        + "".join(f"<dt>{html.escape(name)}<dd>{html.escape(value)}" for name, value in about.items())
        + "</dl>",
        "<h2>Attacks</h2>",
        _table(HEADINGS, attack_rows(report)),
        "<h2>Shuffled membership</h2><p>Nothing is there to be found: what chance gives.</p>",
        _table(NULL_HEADINGS, null_rows(report)),
        "<h2>Plots</h2><div class=plots>",
        *plots(report),
        "</div><h2>Features</h2><p>AUC of “members have more”; below .5 they have less.</p>",
        _table(("feature", "AUC"), features),
    ]
    return "\n".join(parts) + "\n</html>\n"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(heading)}" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in row) for row in rows)
    return f"<div class=scroll><table><tr>{head}{body}</table></div>"
