"""Page of a measured proof: self-contained HTML, for a release's records."""

import html
from collections.abc import Sequence
from pathlib import Path

from rankport.runtime.bundle.manifest import Manifest, Parity, Quality

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; color: #1c2733 }
table { border-collapse: collapse; margin: 0.5rem 0 2rem } td, th { padding: 0.25rem 0.8rem; text-align: right }
th { border-bottom: 2px solid #1c2733 } td { border-bottom: 1px solid #dde3ea }
td:first-child, th:first-child { text-align: left }
.bar { background: #dde3ea; width: 9rem } .bar i { display: block; height: 0.7rem; background: #2c7be5 }
.bad td { color: #b00020; font-weight: 600 } .bad .bar i { background: #b00020 } code { word-break: break-all }
.verdict { font-size: 1.2rem; font-weight: 600 }
"""


def write_html(
    file: Path | None,
    manifest: Manifest,
    parity: Parity,
    quality: Quality | None,
    failures: Sequence[str] = (),
) -> None:
    """Writes the page, if a file is named."""
    if file is None:
        return
    source = manifest.source
    verdict = "verified" if not failures else "FAILED: " + "; ".join(failures)
    page = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_text(manifest.name)}</title>",
        f"<style>{_STYLE}</style>",
        f"<h1>{_text(manifest.name)} {_text(manifest.version)}</h1><p class=verdict>{_text(verdict)}</p>",
        f"<p>{_text(source.architecture)}, {source.parameters / 1e6:.1f} M parameters, against transformers fp32<br>",
        f"Bundle fingerprint <code>{manifest.fingerprint}</code><br>",
        f"Checkpoint sha256 <code>{source.checkpoint_sha256}</code><br>",
        f"Tools: {_text(', '.join(f'{name} {version}' for name, version in source.tools.items()))}</p>",
        _parity_table(parity),
        "" if quality is None else _quality_table(quality),
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(page) + "\n", encoding="utf-8")


def _parity_table(parity: Parity) -> str:
    """Writes a row a mode; the bar is the largest error's share of the tolerance."""
    rows = []
    for mode in parity.modes:
        share = parity.share(mode)
        relative = "-" if mode.relative_error is None else f"{mode.relative_error:.2e}"
        rows.append(
            f"<tr{'' if parity.holds(mode) else ' class=bad'}><td>{_text(mode.mode)}<td>{mode.items}"
            f"<td>{mode.max_abs_error:.2e}<td class=bar><i style='width:{min(share, 1):.1%}'></i>"
            f"<td>{mode.mean_abs_error:.2e}<td>{relative}"
            f"<td>{mode.kendall_tau:.5f}<td>{mode.top_k_agreement:.3f}</tr>"
        )
    return (
        f"<h2>Parity ({_text(parity.backend)}, {_text(parity.precision)})</h2>"
        f"<p>Tolerance: {_text(parity.limits)}.</p>"
        "<table><tr><th>mode<th>items<th>max error<th>of tolerance<th>mean error<th>relative<th>Kendall τ<th>top-k</tr>"
        + "".join(rows)
        + "</table>"
    )


def _quality_table(quality: Quality) -> str:
    rows = (
        f"<tr><td>source<td>{quality.ndcg_at_1_source:.4f}<td>{quality.ndcg_at_10_source:.4f}</tr>"
        f"<tr><td>bundle<td>{quality.ndcg_at_1_bundle:.4f}<td>{quality.ndcg_at_10_bundle:.4f}</tr>"
    )
    return (
        f"<h2>Ranking quality on {quality.requests} judged requests</h2>"
        f"<table><tr><th><th>NDCG@1<th>NDCG@10</tr>{rows}</table>"
    )


def _text(value: str) -> str:
    return html.escape(value)
