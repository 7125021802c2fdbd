"""`rankport ground`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rankport.exporters.vocabulary.grounding.options import GroundingOptions
from rankport.sdk.cli.flags.dataclass_options import filled, flags_of, takes
from rankport.sdk.cli.flags.written import writable
from rankport.sdk.cli.process import importing


@takes(*flags_of(GroundingOptions))
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
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run that was killed in --out; start if there is none."),
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write ground.json here too; - for stdout.", callback=writable),
    ] = None,
    **given: Any,
) -> None:
    """Ground the new rows of a vocabulary in paired text: everything else of the model stays as it is.

    Appends the tokens of --add-tokens, or takes new rows that exist, and trains only them, in both directions, text to
    tokens and tokens to text. Killed at any moment, it goes on with --resume.
    """
    from rankport.sdk.cli.output.consoles import plain_console

    options = filled(GroundingOptions, given)
    with importing():
        from rankport.exporters.vocabulary.grounding.ground import ground as run
    from rankport.sdk.cli.output.ground import print_report
    from rankport.sdk.cli.output.progress import steps
    from rankport.sdk.cli.output.writing import write_json

    console = plain_console(stderr=True)
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
    print_report(console, report)
    write_json(json_file, report.figures)
