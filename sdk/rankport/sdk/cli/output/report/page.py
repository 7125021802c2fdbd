"""The page itself: verdict, facts, measures beside their limits, plots."""

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from rankport.runtime.bundle.manifest import ModeParity, Parity, Quality
from rankport.sdk.cli.output.manifest import manifest_facts
from rankport.sdk.cli.output.measures import (
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
from rankport.sdk.cli.output.writing import writing


def write_html(file: Path | None, report: ProofReport) -> None:
    """Writes the page, if a file is named."""
    if file is None:
        return
    with writing(f"--html {file}"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page(report), encoding="utf-8")


def page(report: ProofReport) -> str:
    """Makes the page as one self-contained HTML text."""
    manifest, first = report.manifest, report.first
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>{_text(manifest.name)}: proof</title><style>{STYLE}</style>",
        f"<h1>{_text(manifest.name)} {_text(manifest.version)}</h1>",
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
        yield f"<div class=verdict><b>Verified.</b> {_text(summary(report.first.parity))}</div>"


def summary(parity: Parity) -> str:
    """Says in a sentence what was compared with what, and how close it is."""
    worst = max(parity.modes, key=parity.share)
    share = f"{parity.share(worst):.0%} of what is allowed"
    if parity.max_abs_tolerance is not None:
        error = f"largest error {worst.max_abs_error:.1e}"
    else:
        error = f"largest relative error {worst.relative_error or 0.0:.1e}"
    return f"Compared with {compared_with(parity)}: {error} in {len(parity.modes)} modes ({worst.mode}), {share}."


def _run_facts(report: ProofReport) -> list[tuple[str, str]]:
    parity = report.first.parity
    quality = report.first.quality
    judged = "" if quality is None else f"; {quality.requests} judged requests among them"
    return [
        ("compared with", compared_with(parity)),
        ("run by", f"{parity.backend}, {parity.precision}"),
        ("on", amount(parity.modes) + judged),
        ("date", report.run.date),
        ("machine", report.run.machine),
        ("tools", report.run.tools_in_words),
        ("command", report.run.command),
    ]


def _parity(parity: Parity) -> str:
    notes = f"<p>Against {_text(compared_with(parity))}; run by {_text(parity.backend)}, {_text(parity.precision)}."
    if parity.noise is not None:
        notes += (
            f" <b>Noise</b> is how far the source moves from itself by rounding alone: relative error "
            f"{parity.noise.relative_error or 0.0:.1e}, Kendall τ {parity.noise.kendall_tau:.4f}; no implementation "
            "can be expected to come closer."
        )
    modes = [*parity.modes, *([] if parity.noise is None else [parity.noise])]
    return f"{notes}</p>{_modes(modes, parity)}"


def _modes(modes: Sequence[ModeParity], parity: Parity | None) -> str:
    """Writes a row a mode; with `parity` its limits as the last row, and a bar of the error's share of the limit."""
    names = ["mode", "requests", "items", "max error", "mean error", "relative", "Kendall τ", "top-k"]
    if parity is not None:
        names.insert(3, "of the limit")
    rows = [_mode(mode, parity) for mode in modes]
    if parity is not None:
        most, relative = parity.max_abs_tolerance, parity.max_relative_tolerance
        rows.append(
            "<tr class=limits><td>limit<td><td><td>100 %"
            f"<td>{'' if most is None else f'≤ {most:.1e}'}<td><td>{'' if relative is None else f'≤ {relative:.1e}'}"
            f"<td>≥ {parity.min_kendall_tau:g}<td></tr>"
        )
    return _table(names, rows)


def _mode(mode: ModeParity, parity: Parity | None) -> str:
    is_noise = parity is not None and mode is parity.noise
    bad = parity is not None and not is_noise and not parity.holds(mode)
    bar = ""
    if parity is not None:
        share = parity.share(mode)
        bar = "<td>" if is_noise else f"<td class=bar><i style='width:{min(share, 1):.1%}'></i>{share:.0%}"
    relative = "–" if mode.relative_error is None else f"{mode.relative_error:.2e}"
    look = " class=bad" if bad else " class=noise" if is_noise else ""
    name = _text(mode.mode).replace("/", "/<wbr>")
    return (
        f"<tr{look}><td>{name}<td>{'–' if mode.requests is None else mode.requests}<td>{mode.items}{bar}"
        f"<td>{mode.max_abs_error:.2e}<td>{mode.mean_abs_error:.2e}<td>{relative}<td>{mode.kendall_tau:.5f}"
        f"<td>{mode.top_k_agreement:.3f}</tr>"
    )


def _measures(measures: Sequence[Measure]) -> str:
    rows = []
    for row in measures:
        cells = "".join(f"<td>{_text(cell)}" for cell in (row.name, row.value, row.limit or "–"))
        rows.append(f"<tr{'' if row.holds else ' class=bad'}>{cells}</tr>")
    return _table(["", "measured", "limit"], rows)


def _quality(quality: Quality | None) -> str:
    if quality is None:
        return "<h2>Ranking quality</h2><p>Not measured: give --judged.</p>"
    rows = [f"<tr><td>{name}<td>{first}<td>{tenth}</tr>" for name, first, tenth in quality_rows(quality)]
    return f"<h2>Ranking quality on {quality.requests} judged requests</h2>{_table(['', 'NDCG@1', 'NDCG@10'], rows)}"


def _table(names: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{name}" for name in names)
    return f"<div class=scroll><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def _facts(rows: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{_text(name.strip())}<dd>{_text(value)}" for name, value in rows) + "</dl>"


def _text(value: str) -> str:
    return html.escape(value)
