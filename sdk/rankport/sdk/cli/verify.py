"""`rankport verify`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from rankport.exporters.options.tolerance import Tolerance
from rankport.sdk.cli.proof_options import (
    DEFAULT,
    Base,
    HtmlFile,
    JsonFile,
    Judged,
    MaxAbsError,
    MaxNdcgLoss,
    MaxRelativeError,
    MinKendallTau,
    Store,
)


def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle directory.")],
    checkpoint: Annotated[Path, typer.Option(help="The checkpoint folder it was exported from.")],
    base: Base = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="The requests that the export was calibrated on, if it was quantized with them."),
    ] = None,
    judged: Judged = None,
    store: Store = None,
    device: Annotated[
        Literal["cpu", "cuda", "tensorrt"],
        typer.Option(
            help="What runs the bundle; a CPU emulates half precision. The source is run on the CPU."
        ),
    ] = "cpu",
    max_abs_error: MaxAbsError = DEFAULT.max_abs_error,
    max_relative_error: MaxRelativeError = DEFAULT.max_relative_error,
    min_kendall_tau: MinKendallTau = DEFAULT.min_kendall_tau,
    max_ndcg_loss: MaxNdcgLoss = DEFAULT.max_ndcg_loss,
    json_file: JsonFile = None,
    html_file: HtmlFile = None,
) -> None:
    """Prove a bundle again: against its checkpoint in every mode, and on judged requests. Exit 1 if it fails."""
    from rich.console import Console

    from rankport.exporters.verify import verify as run
    from rankport.sdk.cli.html_report import write_html
    from rankport.sdk.cli.progress import steps
    from rankport.sdk.cli.tables import print_measured, print_parity, write_json

    console = Console(stderr=True)
    with steps(console) as on_step:
        verdict = run(
            bundle,
            checkpoint,
            base=base,
            judged=judged,
            calibration=calibration,
            store=store,
            device=device,
            tolerance=Tolerance(max_abs_error, max_relative_error, min_kendall_tau, max_ndcg_loss),
            on_progress=on_step,
        )
    for proof in verdict.proofs.values():
        print_parity(console, proof.parity)
    quality, drift = verdict.proof.quality, verdict.proof.drift
    print_measured(console, verdict.bundle.manifest.kind, verdict.proof.drift, quality)
    for failure in verdict.failures:
        console.print(f"FAILED: {failure}", style="bold red", soft_wrap=True)
    write_json(
        json_file,
        {
            "bundle": str(bundle),
            "fingerprint": verdict.bundle.manifest.fingerprint,
            "passed": not verdict.failures,
            "failures": list(verdict.failures),
            "parity": verdict.proof.parity.model_dump(mode="json"),
            "quality": None if quality is None else quality.model_dump(mode="json"),
            "targets": {
                target: proof.parity.model_dump(mode="json") for target, proof in verdict.proofs.items()
            },
            "drift": None if drift is None else [mode.model_dump(mode="json") for mode in drift],
        },
    )
    write_html(html_file, verdict.bundle.manifest, verdict.proof.parity, quality, verdict.failures)
    if verdict.failures:
        raise typer.Exit(1)
    console.print("verified", style="bold green")
