"""`rankport verify`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rankport.exporters.options.proof_options import VerifyOptions
from rankport.sdk.cli.flags.dataclass_options import filled, flags_of, takes
from rankport.sdk.cli.flags.proof_options import HtmlFile, JsonFile
from rankport.sdk.cli.process import importing


@takes(*flags_of(VerifyOptions))
def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle directory.")],
    checkpoint: Annotated[Path, typer.Option(help="The checkpoint folder it was exported from.")],
    json_file: JsonFile = None,
    html_file: HtmlFile = None,
    **given: Any,
) -> None:
    """Prove a bundle again: against its checkpoint in every mode, and on judged requests. Exit 1 if it fails."""
    from rankport.sdk.cli.output.bundle.manifest import print_measured, print_parity, print_run
    from rankport.sdk.cli.output.consoles import plain_console, tell_failures
    from rankport.sdk.cli.output.progress import steps
    from rankport.sdk.cli.output.report.page import write_html
    from rankport.sdk.cli.output.report.report import ProofReport
    from rankport.sdk.cli.output.run_facts import RunFacts
    from rankport.sdk.cli.output.writing import write_json

    options = filled(VerifyOptions, given)
    with importing():
        from rankport.exporters.verify import run_verify

    console = plain_console(stderr=True)
    with steps(console) as on_step:
        verdict = run_verify(bundle, checkpoint, options, on_step)
    report = ProofReport(verdict.bundle.manifest, verdict.proofs, verdict.failures, RunFacts.of_this())
    for target, proof in verdict.proofs.items():
        print_parity(console, proof.parity, target)
    first, agreement = report.first, report.first.agreement
    figures = None if agreement is None else agreement.figures
    print_measured(console, report.manifest.kind, first.drift, first.quality, figures)
    print_run(console, report.run)
    tell_failures(console, verdict.failures)
    write_json(json_file, {"bundle": str(bundle), **report.as_json()})
    write_html(html_file, report)
    if verdict.failures:
        raise typer.Exit(1)
    console.print("verified", style="bold green")
