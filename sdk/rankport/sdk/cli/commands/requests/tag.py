"""`rankport tag`."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Literal, Protocol

import typer

from rankport.protos.priorities import priority as priority_block
from rankport.protos.tagging import TagResult, TagTruncation
from rankport.sdk.cli.flags.model import opened_model, timeout_of
from rankport.sdk.cli.flags.priority import PriorityFlag


class _Tags(Protocol):
    """A tagger, in process or at a server."""

    def tag(
        self,
        texts: Sequence[str],
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
            "--texts", metavar="FILE", help="One text a line; .jsonl: a JSON string a line; - for stdin."
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
    from rankport.sdk.cli.flags.items import from_arguments, from_file
    from rankport.sdk.cli.output.results.tag import write_json_lines, write_table

    given = [*from_arguments(texts or [], False), *(from_file(file, False, "--texts") if file else [])]
    lines = [own.item for own in given if isinstance(own.item, str) and not own.features]
    if not given:
        raise typer.BadParameter("no texts: give them as arguments or with --texts FILE")
    if len(lines) < len(given):
        place = next(i for i, own in enumerate(given) if own.features or not isinstance(own.item, str))
        raise typer.BadParameter(
            f"text {place} of those given is no text: in .jsonl give a JSON string a line"
        )
    limit_s = timeout_of(timeout_s)
    with priority_block(priority), opened_model(server, model, bundle, _load) as tagger:
        result = tagger.tag(lines, limit_s, truncation=truncation, stride=stride)
    (write_json_lines if as_json else write_table)(lines, result)


def _load(bundle: Path) -> AbstractContextManager[_Tags]:
    from rankport.runtime.kinds.tagger.tagger import Tagger

    return Tagger.load(bundle)
