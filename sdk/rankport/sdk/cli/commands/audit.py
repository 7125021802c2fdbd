"""`rankport audit`: release checks of what was trained. `rankport audit tokens` is the one of new vocabulary rows."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rankport.exporters.vocabulary.collapse_limits import CollapseLimits
from rankport.sdk.cli.flags.dataclass_options import filled, flags_of, takes


def audit() -> typer.Typer:
    """Makes the command group."""
    group = typer.Typer(
        help="Check what was trained before it is released.", no_args_is_help=True, add_completion=False
    )
    group.callback()(_group)
    group.command()(tokens)
    return group


def _group() -> None:
    """Check what was trained before it is released."""


@takes(*flags_of(CollapseLimits))
def tokens(
    checkpoint: Annotated[Path, typer.Argument(help="Hugging Face checkpoint folder with new tokens.")],
    new_tokens: Annotated[
        int | None,
        typer.Option(help="New rows: the last N of the table. [default: the tokens written like <a_12>]"),
    ] = None,
    first_new: Annotated[
        int | None, typer.Option(help="First new row; with --new-tokens that many from there, else all.")
    ] = None,
    codebook: Annotated[
        Path | None,
        typer.Option(help="Vectors of the new tokens in id order (.npy, .npz): adds RSA against them."),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=2, help="Rows of either kind whose pairs give quantiles, RSA and plots.")
    ] = 1024,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every sample.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here too; - for stdout.")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Write figures and plots as one page here too.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Write the plots as PNG files into this folder.")] = None,
    **given: Any,
) -> None:
    """Measure whether the new rows of a vocabulary have collapsed. Exit 1 if they miss a limit.

    Reads the embedding tables where they lie in the safetensors; builds no model.
    """
    from rich.console import Console

    limits = filled(CollapseLimits, given)
    from rankport.exporters.vocabulary.audit import audit_tokens
    from rankport.exporters.vocabulary.diagnostics.diagnose import Sampling
    from rankport.sdk.cli.output.audit import print_audit, write_audit_html, write_plots
    from rankport.sdk.cli.output.progress import steps
    from rankport.sdk.cli.output.writing import write_json

    console = Console(stderr=True)
    with steps(console) as on_step:
        report = audit_tokens(
            checkpoint,
            new_tokens=new_tokens,
            first_new=first_new,
            codebook=codebook,
            limits=limits,
            sampling=Sampling(rows=sample, seed=seed),
            on_progress=on_step,
        )
    print_audit(console, report)
    write_json(json_file, report.as_json())
    write_audit_html(html_file, report)
    write_plots(plots, report)
    for failure in report.failures:
        console.print(f"FAILED: {failure}", style="bold red", soft_wrap=True)
    if not report.passed:
        raise typer.Exit(1)
    console.print("passed", style="bold green")
