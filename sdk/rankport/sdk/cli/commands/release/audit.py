"""`rankport audit`: release checks of what was trained.

`rankport audit tokens` is that of new vocabulary rows, `rankport audit membership` that of the users of a training set.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from rankport.exporters.vocabulary.collapse_limits import CollapseLimits
from rankport.runtime.config import EngineConfig
from rankport.sdk.cli.flags.dataclass_options import filled, flags_of, given_values, takes
from rankport.sdk.cli.flags.encoder import SideFlag
from rankport.sdk.cli.flags.written import writable
from rankport.sdk.cli.process import importing
from rankport.sdk.membership.config import MembershipConfig, UserColumns


def audit() -> typer.Typer:
    """Makes the command group."""
    group = typer.Typer(
        help="Check what was trained before it is released.", no_args_is_help=True, add_completion=False
    )
    group.callback()(_group)
    group.command()(tokens)
    group.command()(membership)
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
        Path | None,
        typer.Option("--json", help="Write the figures here too; - for stdout.", callback=writable),
    ] = None,
    html_file: Annotated[
        Path | None,
        typer.Option("--html", help="Write figures and plots as one page here too.", callback=writable),
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Write the plots as PNG files into this folder.")] = None,
    **given: Any,
) -> None:
    """Measure whether the new rows of a vocabulary have collapsed. Exit 1 if they miss a limit.

    Reads the embedding tables where they lie in the safetensors; builds no model.
    """
    from rankport.sdk.cli.output.consoles import plain_console, tell_failures

    limits = filled(CollapseLimits, given)
    with importing():
        from rankport.exporters.vocabulary.audit import audit_tokens
        from rankport.exporters.vocabulary.diagnostics.diagnose import Sampling
    from rankport.sdk.cli.output.audit import print_audit, write_audit_html, write_plots
    from rankport.sdk.cli.output.progress import steps
    from rankport.sdk.cli.output.writing import write_json

    console = plain_console(stderr=True)
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
    tell_failures(console, report.failures)
    if not report.passed:
        raise typer.Exit(1)
    console.print("passed", style="bold green")


@takes(
    *flags_of(UserColumns),
    *flags_of(MembershipConfig),
    *flags_of(EngineConfig, only=("device",)),
)
def membership(
    members: Annotated[
        Path,
        typer.Option(
            help="Texts of users that the encoder was trained on: .csv, .jsonl or .parquet; CSV, JSONL also compressed."
        ),
    ],
    non_members: Annotated[Path, typer.Option(help="Texts of other users, drawn as the members were.")],
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="Bundle of an item encoder, or two towers. Without it the files are embeddings: .npz with the "
            "arrays users and embeddings."
        ),
    ] = None,
    strangers: Annotated[
        Path | None,
        typer.Option(
            help="Texts of a third set of users to measure distances to. [default: drawn from the other two]"
        ),
    ] = None,
    device_id: Annotated[int, typer.Option(min=0, help="Number of the GPU.")] = 0,
    side: SideFlag = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write the figures here too; - for stdout.", callback=writable),
    ] = None,
    html_file: Annotated[
        Path | None,
        typer.Option("--html", help="Write figures and plots as one page here too.", callback=writable),
    ] = None,
    **given: Any,
) -> None:
    """Measure whether an encoder gives away whose texts it was trained on. Exit 1 above --max-auc.

    Takes texts of users whose texts were trained on, and of others: any texts of theirs, not those very ones. Attacks
    look at how close a user's embeddings are to each other and to strangers'; each user is scored by models that have
    not seen it. A control looks at the texts alone: what it reaches is a difference of the two sets, not a leak.

    Exit codes: 0 measured, and not above --max-auc if that is given; 1 above it, or a file is missing, or the bundle
    failed; 2 what was asked is wrong, such as a user in both files.
    """
    from rankport.sdk.cli.output.consoles import plain_console, tell_failures
    from rankport.sdk.cli.output.membership.report import print_membership, write_membership
    from rankport.sdk.cli.output.progress import steps
    from rankport.sdk.membership.audit import audit_membership

    console = plain_console(stderr=True)
    with steps(console) as on_step:
        report = audit_membership(
            bundle,
            members,
            non_members,
            strangers=strangers,
            device=given["device"],
            device_id=device_id,
            side=side,
            on_progress=on_step,
            **given_values(UserColumns, given),
            **given_values(MembershipConfig, given),
        )
    print_membership(console, report)
    write_membership(report, json_file, html_file)
    tell_failures(console, report.failures)
    if not report.passed:
        raise typer.Exit(1)
    if report.config.max_auc is not None:
        console.print("passed", style="bold green")
