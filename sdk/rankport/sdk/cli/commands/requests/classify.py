"""`rankport classify`."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Protocol

import typer

from rankport.protos.classes import ClassifyResult, ClassText
from rankport.protos.types import Prefix, Truncation
from rankport.sdk.cli.flags.model import opened_model, timeout_of
from rankport.sdk.cli.flags.priority import PriorityFlag
from rankport.sdk.cli.flags.written import Format, writable, written_format


def classify(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to classify.")] = None,
    server: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Classify at this server ...")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="... or with this bundle, in process.")] = None,
    model: Annotated[str, typer.Option(help="Which of the server's models, if it has several.")] = "",
    prefix: Annotated[
        str | None, typer.Option(help="First text of all pairs, of a bundle that reads two together.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help='One text a line; .jsonl: a text, {"texts": [first, second]} or {"token_ids": ...}; - for stdin, '
            "JSONL if its first line is an object.",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="List every label of this probability or more, not the likeliest alone."
        ),
    ] = None,
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut texts over a limit, and say so.")] = False,
    timeout_s: Annotated[float | None, typer.Option(help="Give up after this many seconds.")] = None,
    priority: PriorityFlag = "interactive",
    form: Annotated[
        Format | None,
        typer.Option("--format", help="How it is written. [default: by the ending of --out, else a table]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write to this file, .csv or .json, instead of standard output.",
            callback=writable,
        ),
    ] = None,
) -> None:
    """Tell the labels of texts, or of pairs, in their order: label, probability, text, status.

    Works for classifiers, and for rankers with a head of classes.

    Exit codes: 0 classified, also if single texts failed; 2 what was asked is wrong; 1 anything else.
    """
    from rankport.sdk.cli.flags.texts import texts_of_file
    from rankport.sdk.cli.output.results.classes import Classified, write_classes

    written = written_format(form, as_json, out)
    given: list[ClassText] = [*(texts or []), *(texts_of_file(file) if file else [])]
    if not given:
        raise typer.BadParameter("no texts: give them as arguments or with --file FILE")
    truncation: Truncation = "truncate" if truncate else "error"
    with opened_model(server, model, bundle, _load, priority=priority) as classifier:
        result = classifier.classify(given, prefix, timeout_of(timeout_s), truncation=truncation)
    write_classes(Classified(result, given, threshold), written, out)


class _Classifies(Protocol):
    def classify(
        self,
        texts: Iterable[ClassText],
        prefix: Prefix | None = None,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
    ) -> ClassifyResult: ...


def _load(bundle: Path) -> AbstractContextManager[_Classifies]:
    from rankport.runtime.kinds.classifying import Classifier

    return Classifier.load(bundle)
