"""The page itself: verdict, facts, measures beside their limits, plots."""

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rankport.exporters.kinds.table import kinds_with
from rankport.exporters.proof.prove import Proof
from rankport.runtime.bundle.manifest import ModeParity, Parity, Quality
from rankport.sdk.cli.output.bundle.facts import manifest_facts
from rankport.sdk.cli.output.bundle.measures import (
    Measure,
    agreement_in_words,
    agreement_measures,
    amount,
    compared_with,
    quality_rows,
)
from rankport.sdk.cli.output.report.plots import plots
from rankport.sdk.cli.output.report.report import ProofReport
from rankport.sdk.cli.output.report.style import STYLE
from rankport.sdk.cli.output.writing import write_file


def write_html(file: Path | None, report: ProofReport) -> None:
    """Writes the page, if a file is named."""
    if file is None:
        return
    write_file("--html", file, page(report))


def page(report: ProofReport) -> str:
    """Makes the page as one self-contained HTML text."""
    manifest, first = report.manifest, report.first
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>{_text(manifest.name)}: proof</title><style>{STYLE}</style>",
        f"<h1>{_text(manifest.name)}, version {_text(manifest.version)}</h1>",
        *_verdict(report),
        _facts(_run_facts(report)),
    ]
    if first.agreement is not None:
        figures = first.agreement.figures
        parts += [
            "<h2>Agreement with your own pipeline</h2>",
            f"<p>{_text(agreement_in_words(figures))}.</p>",
        ]
        parts.append(_measures(agreement_measures(figures)))
    for target, proof in report.proofs.items():
        parts += [f"<h2>Parity of the graphs for {_text(target)}</h2>", _parity(proof.parity)]
    if first.drift is not None:
        parts += [
            "<h2>Drift from the fp32 original</h2><p>What the low bits cost; the gate is the ranking quality.</p>",
            _modes(first.drift, None),
        ]
    if first.quality is not None or manifest.kind in kinds_with("judged"):
        parts.append(_quality(first.quality))
    drawn = plots(first.evidence, first.parity)
    parts += ["<h2>Plots</h2><div class=plots>", *drawn, "</div>"] if drawn else []
    parts += ["<h2>The bundle</h2>", _facts(manifest_facts(manifest))]
    return "\n".join(parts) + "\n</html>\n"


def _verdict(report: ProofReport) -> Iterable[str]:
    if report.failures:
        yield "<div class='verdict bad'><b>FAILED</b><ul>"
        yield from (f"<li>{_text(failure)}" for failure in report.failures)
        yield "</ul></div>"
    else:
        yield f"<div class=verdict><b>Verified.</b> {_text(summary(report.first))}</div>"


def summary(proof: Proof) -> str:
    """Says in a few sentences what was compared with what, how close it is, and what low bits cost."""
    parity = proof.parity
    worst = max(parity.modes, key=parity.share)
    errors = [] if parity.max_abs_tolerance is None else [f"error {worst.max_abs_error:.1e}"]
    if parity.max_relative_tolerance is not None:
        errors.append(f"relative error {worst.relative_error or 0.0:.1e}")
    error = ", ".join(errors)
    said = f"Compared with {compared_with(parity)}: largest {error} in {len(parity.modes)} modes ({worst.mode}), "
    said += f"{parity.share(worst):.0%} of what is allowed."
    if proof.quality is not None:
        source, bundle = proof.quality.ndcg_at_10_source, proof.quality.ndcg_at_10_bundle
        whose = "the fp32 original" if proof.drift is not None else "the source"
        said += f" NDCG@10 is {bundle:.4f}, of {whose} {source:.4f}."
    return said


def _run_facts(report: ProofReport) -> list[tuple[str, str]]:
    parity = report.first.parity
    return [
        ("compared with", compared_with(parity)),
        ("run by", f"{parity.backend}, {parity.precision}"),
        ("on", amount(parity.modes, report.first.quality)),
        ("date", report.run.date),
        ("machine", report.run.machine),
        ("tools", report.run.tools_in_words),
        ("command", report.run.command),
    ]


def _parity(parity: Parity) -> str:
    notes = f"<p>Run by {_text(parity.backend)}, {_text(parity.precision)}."
    if parity.noise is not None:
        notes += (
            f" <b>Noise</b> is how far the source moves from itself by rounding alone: relative error "
            f"{parity.noise.relative_error or 0.0:.1e}, Kendall τ {parity.noise.kendall_tau:.4f}; no implementation "
            "can be expected to come closer."
        )
    modes = [*parity.modes, *([] if parity.noise is None else [parity.noise])]
    measured = [figures.in_words for figures in (parity.batches, parity.order) if figures is not None]
    further = "".join(f"<p>{_text(words)}.</p>" for words in measured)
    return f"{notes}</p>{_modes(modes, parity)}{further}"


def _modes(modes: Sequence[ModeParity], parity: Parity | None) -> str:
    """Writes a row a mode; with `parity` its limits as the last row, and a bar of the error's share of the limit."""
    columns = _columns(parity)
    rows = [_row(columns, _cells(mode, parity), _look(mode, parity)) for mode in modes]
    if parity is not None:
        most, relative = parity.max_abs_tolerance, parity.max_relative_tolerance
        limits = {"mode": "limit", "of the limit": "100%", "Kendall τ": f"≥ {parity.min_kendall_tau:g}"}
        limits |= {} if most is None else {"max error": f"≤ {most:.1e}"}
        limits |= {} if relative is None else {"relative": f"≤ {relative:.1e}"}
        rows.append(_row(columns, limits, "limits"))
    return _table(columns, rows)


def _columns(parity: Parity | None) -> dict[str, str]:
    """Lists the columns with their class: a narrow page leaves out the wide ones."""
    columns = dict.fromkeys(_COLUMNS, "")
    columns |= dict.fromkeys(("requests", "items", "mean error", "top-k"), "wide")
    if parity is None:
        del columns["of the limit"]
    else:
        columns["of the limit"] = "bar"
        columns["max error" if parity.max_abs_tolerance is None else "relative"] = "wide"
    return columns


_COLUMNS = (
    "mode",
    "requests",
    "items",
    "of the limit",
    "max error",
    "mean error",
    "relative",
    "Kendall τ",
    "top-k",
)


def _cells(mode: ModeParity, parity: Parity | None) -> dict[str, str]:
    bar = ""
    if parity is not None and mode is not parity.noise:
        share = parity.share(mode)
        bar = f"<i style='width:{min(share, 1):.1%}'></i>{share:.0%}"
    return {
        "mode": _text(mode.mode).replace("/", "/<wbr>").replace("_", "_<wbr>"),
        "requests": "–" if mode.requests is None else str(mode.requests),
        "items": str(mode.items),
        "of the limit": bar,
        "max error": f"{mode.max_abs_error:.2e}",
        "mean error": f"{mode.mean_abs_error:.2e}",
        "relative": "–" if mode.relative_error is None else f"{mode.relative_error:.2e}",
        "Kendall τ": f"{mode.kendall_tau:.5f}",
        "top-k": f"{mode.top_k_agreement:.3f}",
    }


def _look(mode: ModeParity, parity: Parity | None) -> str:
    if parity is not None and mode is parity.noise:
        return "noise"
    return "" if parity is None or parity.holds(mode) else "bad"


def _row(columns: Mapping[str, str], cells: Mapping[str, str], look: str) -> str:
    inner = "".join(f"<td class='{kind}'>{cells.get(name, '')}" for name, kind in columns.items())
    return f"<tr class='{look}'>{inner}</tr>"


def _measures(measures: Sequence[Measure]) -> str:
    columns = {"": "", "measured": "", "limit": ""}
    rows = [
        _row(
            columns,
            {"": _text(row.name), "measured": _text(row.value), "limit": _text(row.limit or "–")},
            "" if row.holds else "bad",
        )
        for row in measures
    ]
    return _table(columns, rows)


def _quality(quality: Quality | None) -> str:
    if quality is None:
        return "<h2>Ranking quality</h2><p>Not measured: give --judged.</p>"
    columns = {"": "", "NDCG@1": "", "NDCG@10": ""}
    rows = [_row(columns, dict(zip(columns, row, strict=True)), "") for row in quality_rows(quality)]
    return f"<h2>Ranking quality on {quality.requests} judged requests</h2>{_table(columns, rows)}"


def _table(columns: Mapping[str, str], rows: Sequence[str]) -> str:
    head = "".join(f"<th class='{kind}'>{name}" for name, kind in columns.items())
    return f"<div class=scroll><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def _facts(rows: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{_text(name.strip())}<dd>{_text(value)}" for name, value in rows) + "</dl>"


def _text(value: str) -> str:
    return html.escape(value)
