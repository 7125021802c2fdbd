"""Pictures of an audit: singular spectrum, cosine heat map and RSA scatter of one table, as PNG.

Draws on figures of its own, never on matplotlib's global state.
"""

import io
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from rankport.exporters.vocabulary.diagnostics.cosines import cosine_matrix
from rankport.exporters.vocabulary.diagnostics.diagnose import TableDiagnostics

_HEAT_ROWS = 160  # of either kind
_SCATTER_PAIRS = 20_000
_DPI = 110


def draw(table: TableDiagnostics) -> dict[str, bytes]:
    """Draws PNG files of one table by name; the scatter only with a codebook."""
    pictures = {"spectrum": _png(_spectrum(table)), "cosines": _png(_cosines(table))}
    if table.rsa is not None:
        pictures["rsa"] = _png(_rsa(table))
    return pictures


def _spectrum(table: TableDiagnostics) -> Figure:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes: Any = figure.add_subplot()
    for name, values in (("new rows", table.new_spectrum), ("as many pretrained rows", table.old_spectrum)):
        relative = values.singular_values / max(float(values.singular_values[0]), 1e-30)
        label = f"{name}: effective rank {values.effective_rank:.1f}"
        axes.semilogy(np.arange(1, len(relative) + 1), np.maximum(relative, 1e-8), label=label)
    axes.set(xlabel="singular value", ylabel="relative to the largest", title=table.table)
    axes.legend()
    return figure


def _cosines(table: TableDiagnostics) -> Figure:
    """Shows new rows first, pretrained ones after them: a collapsed vocabulary is a bright block at the top left."""
    new, old = (_thin(rows) for rows in (table.samples.new, table.samples.old))
    rows = torch.cat([new, old])
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    axes: Any = figure.add_subplot()
    image = axes.imshow(cosine_matrix(rows, rows), vmin=-1, vmax=1, cmap="RdBu_r", interpolation="nearest")
    for draw_line in (axes.axhline, axes.axvline):
        draw_line(len(new) - 0.5, color="black", linewidth=0.8)
    axes.set(title=f"{table.table}\ncosines of new | pretrained rows", xlabel="row of the sample")
    figure.colorbar(image, ax=axes)
    return figure


def _rsa(table: TableDiagnostics) -> Figure:
    assert table.rsa is not None
    assert table.samples.codebook_cosines is not None
    shown = slice(None, None, max(1, len(table.samples.row_cosines) // _SCATTER_PAIRS))
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    axes: Any = figure.add_subplot()
    axes.scatter(
        table.samples.codebook_cosines[shown], table.samples.row_cosines[shown], s=3, alpha=0.25, linewidths=0
    )
    correlation = table.rsa.all_pairs
    axes.set(
        xlabel="cosine of codebook vectors",
        ylabel="cosine of new rows",
        title=f"{table.table}\nRSA: Pearson {correlation.pearson:.3f}, Spearman {correlation.spearman:.3f}",
    )
    return figure


def _thin(rows: torch.Tensor) -> torch.Tensor:
    """Takes evenly spaced rows, in order: levels stay blocks."""
    chosen = np.linspace(0, len(rows) - 1, min(_HEAT_ROWS, len(rows))).astype(int)
    return rows[torch.from_numpy(chosen)]


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
