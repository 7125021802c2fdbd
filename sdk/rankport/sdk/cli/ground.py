"""`rankport ground`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rankport.exporters.vocabulary.grounding_options import GroundingOptions

if TYPE_CHECKING:
    from rich.console import Console

    from rankport.exporters.vocabulary.ground import GroundReport

DEFAULT = GroundingOptions()


def ground(
    checkpoint: Annotated[Path, typer.Argument(help="Hugging Face checkpoint folder of a causal LM.")],
    pairs: Annotated[
        Path, typer.Option(help='JSONL: {"text": "...", "tokens": ["<a_12>", "<b_7>"]} a line.')
    ],
    out: Annotated[Path, typer.Option(help="Checkpoint folder to make, complete and ready for export.")],
    add_tokens: Annotated[
        Path | None, typer.Option(help="File of tokens to append to the vocabulary, one a line.")
    ] = None,
    new_tokens: Annotated[
        int | None,
        typer.Option(
            help="Rows that exist: the last N of the table. [default: the tokens written like <a_12>]"
        ),
    ] = None,
    first_new: Annotated[int | None, typer.Option(help="Rows that exist: the first new one.")] = None,
    init: Annotated[
        Literal["grounded", "mean", "random"],
        typer.Option(
            metavar="START", help="Where rows start: grounded (from the paired texts), mean or random."
        ),
    ] = DEFAULT.init,
    epochs: Annotated[
        int, typer.Option(help="Passes over the pairs at most; 0 only starts the rows.")
    ] = DEFAULT.epochs,
    batch_size: Annotated[int, typer.Option(help="Pairs a step.")] = DEFAULT.batch_size,
    learning_rate: Annotated[
        float, typer.Option(help="Of AdamW, as a share of the root mean square of pretrained values.")
    ] = DEFAULT.learning_rate,
    weight_decay: Annotated[float, typer.Option(help="Of AdamW.")] = DEFAULT.weight_decay,
    held_out: Annotated[
        float, typer.Option(help="Share of the items kept out of training, to measure and to stop by.")
    ] = DEFAULT.held_out,
    patience: Annotated[
        int, typer.Option(help="Epochs without a better held-out loss before stopping.")
    ] = DEFAULT.patience,
    max_text_tokens: Annotated[int, typer.Option(help="Texts are cut here.")] = DEFAULT.max_text_tokens,
    seed: Annotated[int, typer.Option(help="Of start, split and order.")] = DEFAULT.seed,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run that was killed in --out; start if there is none."),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write ground.json here too; - for stdout.")
    ] = None,
) -> None:
    """Ground the new rows of a vocabulary in paired text: everything else of the model stays as it is.

    Appends the tokens of --add-tokens, or takes new rows that exist, and trains only them, in both directions, text to
    tokens and tokens to text. Killed at any moment, it goes on with --resume.
    """
    from rich.console import Console

    options = GroundingOptions(
        init=init,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        held_out=held_out,
        patience=patience,
        max_text_tokens=max_text_tokens,
        seed=seed,
    )
    from rankport.exporters.vocabulary.ground import ground as run
    from rankport.sdk.cli.progress import steps
    from rankport.sdk.cli.tables import write_json

    console = Console(stderr=True)
    with steps(console) as on_step:
        report = run(
            checkpoint,
            pairs,
            out,
            add=add_tokens,
            new_tokens=new_tokens,
            first_new=first_new,
            options=options,
            resume=resume,
            on_progress=on_step,
        )
    _print_report(console, report)
    write_json(json_file, report.figures)


def _print_report(console: "Console", report: "GroundReport") -> None:
    from rich.table import Table

    figures = report.figures
    likelihood = figures["held_out_log_likelihood"]
    table = Table(
        title=f"{figures['new_tokens']} rows grounded in {figures['epochs']} epochs, best after "
        f"{figures['best_epoch']}",
        title_justify="left",
    )
    for heading in ("held out, nats a token", "start", "grounded"):
        table.add_column(heading, justify="left" if heading.startswith("held") else "right")
    for name, label in (("text_to_tokens", "text → tokens"), ("tokens_to_text", "tokens → text")):
        table.add_row(label, f"{likelihood[name]['before']:.3f}", f"{likelihood[name]['after']:.3f}")
    console.print(table)
    for found in report.tables:
        console.print(
            f"{found.table}: effective rank {found.new_spectrum.effective_rank:.1f} "
            f"({found.effective_rank_ratio:.2f} of pretrained), mean cosine {found.new_new.mean:.3f}",
            highlight=False,
            soft_wrap=True,
        )
    if figures["tokens_without_a_training_pair"]:
        console.print(
            f"{figures['tokens_without_a_training_pair']} tokens had no pair to train on: they start at the mean",
            style="yellow",
        )
    console.print(f"checkpoint: {report.out}", soft_wrap=True)
