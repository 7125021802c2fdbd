"""`rankport tag`."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Literal, Protocol

import typer

from rankport.protos.tagging import TagResult, TagTexts, TagTruncation
from rankport.sdk.cli.flags.model import opened_model, timeout_of
from rankport.sdk.cli.flags.priority import PriorityFlag


class _Tags(Protocol):
    """A tagger, in process or at a server."""

    def tag(
        self,
        texts: Iterable[str | Sequence[str]],
        timeout_s: float | None = None,
        *,
        truncation: TagTruncation = "error",
        stride: int | None = None,
    ) -> TagResult: ...


def tag(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to find spans in.")] = None,
    server: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Tag at this server ...")] = None,
    bundle: Annotated[Path | None, typer.Option(help="... or with this bundle, in process.")] = None,
    model: Annotated[str, typer.Option(help="Which of the server's models, if it has several.")] = "",
    file: Annotated[
        str | None,
        typer.Option(
            "--texts",
            metavar="FILE",
            help='One text a line; .jsonl: a text, {"text": ...}, or of all lines a list of words; - for stdin, JSONL '
            "if its first line is an object.",
        ),
    ] = None,
    truncation: Annotated[
        Literal["error", "truncate", "windows"],
        typer.Option(help="Texts longer than the model reads: refused, cut, or read in overlapping windows."),
    ] = "windows",
    stride: Annotated[
        int | None,
        typer.Option(help="Tokens that neighbouring windows share. [default: a quarter of a window]"),
    ] = None,
    timeout_s: Annotated[float | None, typer.Option(help="Give up after this many seconds.")] = None,
    priority: PriorityFlag = "interactive",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a text, with its spans.")] = False,
) -> None:
    """Find labelled spans in texts: where each begins and ends in characters, its label, its score, its text.

    Exit codes: 0 tagged; 2 what was asked is wrong; 1 anything else.
    """
    from rankport.sdk.cli.flags.texts import tagged_texts_of_file
    from rankport.sdk.cli.output.results.tag import write_json_lines, write_table

    listed = [*(texts or []), *(tagged_texts_of_file(file) if file else [])]
    given = TagTexts.of(listed)
    if not listed:
        raise typer.BadParameter("no texts: give them as arguments or with --texts FILE")
    limit_s = timeout_of(timeout_s)
    with opened_model(server, model, bundle, _load, priority=priority) as tagger:
        result = tagger.tag(listed, limit_s, truncation=truncation, stride=stride)
    (write_json_lines if as_json else write_table)(given, result)


def _load(bundle: Path) -> AbstractContextManager[_Tags]:
    from rankport.runtime.kinds.tagger.tagger import Tagger

    return Tagger.load(bundle)
