"""`rankport verify`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rankport.exporters.options.proof_options import VerifyOptions
from rankport.sdk.cli.flags.dataclass_options import filled, flags_of, takes
from rankport.sdk.cli.flags.proof_options import HtmlFile, JsonFile


@takes(*flags_of(VerifyOptions))
def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle directory.")],
    checkpoint: Annotated[Path, typer.Option(help="The checkpoint folder it was exported from.")],
    json_file: JsonFile = None,
    html_file: HtmlFile = None,
    **given: Any,
) -> None:
    """Prove a bundle again: against its checkpoint in every mode, and on judged requests. Exit 1 if it fails."""
    from rich.console import Console

    from rankport.sdk.cli.output.html_report import write_html
    from rankport.sdk.cli.output.manifest import print_measured, print_parity
    from rankport.sdk.cli.output.progress import steps
    from rankport.sdk.cli.output.writing import write_json

    options = filled(VerifyOptions, given)
    from rankport.exporters.verify import run_verify

    console = Console(stderr=True)
    with steps(console) as on_step:
        verdict = run_verify(bundle, checkpoint, options, on_step)
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
