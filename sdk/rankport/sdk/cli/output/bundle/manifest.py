"""Tables of measurements and of what a bundle is, as commands show them to people."""

import re
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from rankport.exporters.kinds.table import kinds_with
from rankport.runtime.bundle.manifest import (
    Agreement,
    Manifest,
    ModeParity,
    Parity,
    Quality,
)
from rankport.sdk.cli.output.bundle.facts import manifest_facts
from rankport.sdk.cli.output.bundle.measures import (
    agreement_in_words,
    agreement_measures,
    parity_in_words,
    quality_rows,
)
from rankport.sdk.cli.output.run_facts import RunFacts


def print_parity(console: Console, parity: Parity, target: str) -> None:
    """Prints a row a mode, and below them what each had to reach."""
    table = _modes_table(f"Parity of the graphs for {target}: {parity_in_words(parity)}")
    for mode in parity.modes:
        table.add_row(*_mode_cells(mode), style=None if parity.holds(mode) else "bold red")
    if parity.noise is not None:
        table.add_row(*_mode_cells(parity.noise), style="dim")
    table.add_section()
    table.add_row("limit", "", *_limit_cells(parity), "", style="bold")
    console.print(table)
    if parity.noise is not None:
        console.print(
            "noise: the source against itself, moved by rounding alone", style="dim", soft_wrap=True
        )
    if parity.batches is not None:
        console.print(parity.batches.in_words, style="dim", soft_wrap=True)
    if parity.order is not None:
        console.print(parity.order.in_words, style="dim", soft_wrap=True)


def _limit_cells(parity: Parity) -> tuple[str, str, str]:
    most, relative = parity.max_abs_tolerance, parity.max_relative_tolerance
    return (
        "" if most is None else f"≤{most:.1e}",
        "" if relative is None else f"≤{relative:.1e}",
        f"≥{parity.min_kendall_tau:.4g}",
    )


def print_drift(console: Console, drift: Sequence[ModeParity]) -> None:
    """Prints how far quantization at export moved the model from its full-precision source."""
    table = _modes_table("Drift from the full-precision source (reported, not limited)")
    for mode in drift:
        table.add_row(*_mode_cells(mode))
    console.print(table)


def print_agreement(console: Console, agreement: Agreement) -> None:
    """Prints how a bundle agrees with the owner's own pipeline."""
    table = Table(
        title=f"Agreement with your own pipeline: {agreement_in_words(agreement)}", title_justify="left"
    )
    for heading in ("", "measured", "limit"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for row in agreement_measures(agreement):
        table.add_row(row.name, row.value, row.limit, style=None if row.holds else "bold red")
    console.print(table)


def _modes_table(title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("mode", no_wrap=True)
    for heading in ("items", "max err", "rel err", "tau", "top-k"):
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _mode_cells(mode: ModeParity) -> tuple[str, ...]:
    return (
        mode.mode,
        str(mode.items),
        f"{mode.max_abs_error:.1e}",
        "-" if mode.relative_error is None else f"{mode.relative_error:.1e}",
        f"{mode.kendall_tau:.4f}",
        f"{mode.top_k_agreement:.3f}",
    )


def print_quality(console: Console, quality: Quality) -> None:
    """Prints NDCG of source and bundle."""
    table = Table(title=f"Ranking quality on {quality.requests} judged requests", title_justify="left")
    for heading in ("", "NDCG@1", "NDCG@10"):
        table.add_column(heading, justify="right" if heading else "left")
    for row in quality_rows(quality):
        table.add_row(*row)
    console.print(table)


_FINGERPRINT = re.compile("[0-9a-f]{64}")


def print_manifest(console: Console, manifest: Manifest) -> None:
    """Prints what the bundle is, then what was measured."""
    table = Table(title=f"{manifest.name} {manifest.version}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    whole = []  # fingerprints, that are to be copied and found in logs, are cut by no column
    for name, value in manifest_facts(manifest):
        if _FINGERPRINT.fullmatch(value):
            whole.append(f"{name}: {value}")
        else:
            table.add_row(name, value)
    console.print(table)
    for line in whole:
        console.print(line, soft_wrap=True, highlight=False)
    if manifest.parity is not None:
        print_parity(console, manifest.parity, manifest.targets[0])
    for target, parity in (manifest.target_parity or {}).items():
        print_parity(console, parity, target)
    print_measured(console, manifest.kind, manifest.drift, manifest.quality, manifest.agreement)


def print_measured(
    console: Console,
    kind: str,
    drift: Sequence[ModeParity] | None,
    quality: Quality | None,
    agreement: Agreement | None,
) -> None:
    """Prints what was measured beyond parity; says so where a bundle lost bits and nobody measured its ranking."""
    if agreement is not None:
        print_agreement(console, agreement)
    if drift is not None:
        print_drift(console, drift)
    if quality is not None:
        print_quality(console, quality)
    elif drift is not None and kind in kinds_with("judged"):
        console.print("ranking quality was not measured: give --judged, and the gate decides", style="yellow")


def print_run(console: Console, run: RunFacts) -> None:
    """Prints when, where and with what it was measured."""
    console.print(
        f"measured {run.date} on {run.machine}; {run.tools_in_words}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
