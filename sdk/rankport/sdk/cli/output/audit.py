"""Figures of `rankport audit tokens`, as a table, one page and PNG files."""

import base64
import html
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rankport.exporters.vocabulary.audit import AuditReport
from rankport.exporters.vocabulary.diagnostics.cosines import CosineBlock
from rankport.exporters.vocabulary.diagnostics.diagnose import Norms, TableDiagnostics
from rankport.exporters.vocabulary.diagnostics.similarity import Similarity
from rankport.sdk.cli.output.writing import write_file, writing

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; color: #1c2733 }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem } td, th { padding: 0.25rem 0.8rem; text-align: right }
th { border-bottom: 2px solid #1c2733 } td { border-bottom: 1px solid #dde3ea }
td:first-child, th:first-child { text-align: left } img { max-width: 100% }
.verdict { font-size: 1.2rem; font-weight: 600 }
"""


def print_audit(console: Console, report: AuditReport) -> None:
    """Prints a table of figures and one of neighbours for each embedding table."""
    rows = report.rows
    console.print(
        f"{rows.count} new rows from id {rows.first} of {rows.total}, tables {'tied' if report.tied else 'untied'}",
        highlight=False,
    )
    for table in report.tables:
        _print_rows(console, table.table, ("", "new", "pretrained"), figure_rows(table))
        _print_rows(
            console, "Nearest pretrained rows", ("new row", "neighbours"), neighbour_rows(report, table)
        )


def figure_rows(table: TableDiagnostics) -> list[tuple[str, str, str]]:
    """Lists name, value of the new rows, value of the pretrained ones."""
    new, old = table.new_spectrum, table.old_spectrum
    rows = [
        ("effective rank", f"{new.effective_rank:.1f}", f"{old.effective_rank:.1f}"),
        ("  share of pretrained", f"{table.effective_rank_ratio:.3f}", ""),
        ("condition", f"{new.condition:.3g}", f"{old.condition:.3g}"),
        ("energy of 1st direction", f"{new.top_share:.3f}", f"{old.top_share:.3f}"),
        ("norm, mean ± std", _norms(table.new_norms), _norms(table.old_norms)),
        ("mean cosine within", f"{table.new_new.mean:.3f}", f"{table.old_old.mean:.3f}"),
        ("  5 %, 50 %, 95 %", _quantiles(table.new_new), _quantiles(table.old_old)),
        ("mean cosine to pretrained", f"{table.new_old.mean:.3f}", ""),
        ("duplicate rows, zero rows", f"{table.duplicates}, {table.zeros}", ""),
    ]
    if table.rsa is not None:
        rows.append(("RSA, Pearson r, Spearman ρ", _similarity(table.rsa.all_pairs), ""))
        if table.rsa.within_levels is not None:
            rows.append(("  within levels", _similarity(table.rsa.within_levels), ""))
    return rows


def neighbour_rows(report: AuditReport, table: TableDiagnostics) -> list[tuple[str, str]]:
    """Lists new tokens, and the pretrained tokens nearest to each with their cosines."""
    rows = []
    for near in table.neighbours:
        name = report.rows.names[near.row - report.rows.first] or str(near.row)
        pairs = zip(near.old_rows, near.cosines, strict=True)
        rows.append((name, ", ".join(f"{report.old_names[row]} {cosine:.2f}" for row, cosine in pairs)))
    return rows


def write_audit_html(file: Path | None, report: AuditReport) -> None:
    """Writes figures and plots as one self-contained page, if a file is named."""
    if file is None:
        return
    from rankport.exporters.vocabulary.diagnostics.plots import draw

    verdict = "passed" if report.passed else "FAILED: " + "; ".join(report.failures)
    page = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>audit tokens</title><style>{_STYLE}</style>",
        f"<h1>{report.rows.count} new tokens from id {report.rows.first} of {report.rows.total}</h1>",
        f"<p class=verdict>{html.escape(verdict)}</p>",
    ]
    for table in report.tables:
        page.append(f"<h2>{html.escape(table.table)}</h2>")
        page.append(_html_table(("", "new", "pretrained"), figure_rows(table)))
        page.append(_html_table(("new row", "nearest pretrained rows"), neighbour_rows(report, table)))
        for name, png in draw(table).items():
            content = base64.b64encode(png).decode()
            page.append(f"<p><img alt={name} src='data:image/png;base64,{content}'></p>")
    write_file("--html", file, "\n".join(page) + "\n")


def write_plots(folder: Path | None, report: AuditReport) -> None:
    """Writes <table>-<plot>.png for each table, if a folder is named."""
    if folder is None:
        return
    from rankport.exporters.vocabulary.diagnostics.plots import draw

    with writing(f"--plots {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        for table in report.tables:
            for name, png in draw(table).items():
                (folder / f"{table.table.removesuffix('.weight')}-{name}.png").write_bytes(png)


def _print_rows(
    console: Console,
    title: str,
    headings: tuple[str, ...],
    rows: "list[tuple[str, str, str]] | list[tuple[str, str]]",
) -> None:
    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(headings):
        right = number > 0 and len(headings) == 3
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _html_table(headings: tuple[str, ...], rows: "list[tuple[str, str, str]] | list[tuple[str, str]]") -> str:
    head = "".join(f"<th>{html.escape(heading)}" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _norms(norms: Norms) -> str:
    return f"{norms.mean:.3f} ± {norms.std:.3f}"


def _quantiles(cosines: CosineBlock) -> str:
    return f"{cosines.p05:.2f}, {cosines.p50:.2f}, {cosines.p95:.2f}"


def _similarity(similarity: Similarity) -> str:
    return f"r {similarity.pearson:.3f}, ρ {similarity.spearman:.3f}"
