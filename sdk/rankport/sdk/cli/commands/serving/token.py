"""`rankport token`: tokens of a server's clients."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, cast

import typer

from rankport.sdk.cli.flags.lines import lines_of
from rankport.sdk.cli.output.writing import replace_text, writing


def token() -> typer.Typer:
    """Makes the command group."""
    group = typer.Typer(
        help="Make tokens for the clients of a server.", no_args_is_help=True, add_completion=False
    )
    group.callback()(_group)
    group.command()(new)
    return group


def _group() -> None:
    """Make tokens for the clients of a server."""


def new(
    name: Annotated[str, typer.Argument(help="Client that the token is for; logs name it.")],
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Add its line to this file of `serve --token-file`. [default: print it]"
        ),
    ] = None,
    rights: Annotated[
        str,
        typer.Option(
            metavar="RIGHTS", help="What the client may, with commas between: call, admin, metrics."
        ),
    ] = "call",
    items_per_s: Annotated[
        float | None, typer.Option(help="Quota of items a second. [default: none]")
    ] = None,
    tokens_per_s: Annotated[
        float | None, typer.Option(help="Quota of tokens read a second. [default: none]")
    ] = None,
    concurrent: Annotated[
        int | None, typer.Option(help="Quota of requests at the same time. [default: none]")
    ] = None,
    background: Annotated[
        bool, typer.Option("--background", help="Its requests give way to others: none may be interactive.")
    ] = False,
) -> None:
    """Draw a token and print it: it is nowhere else, and its line does not tell it.

    A second line of one name is a second token of that client: to rotate, add one, hand it out, and take the old line
    away.
    """
    from rankport.runtime.server.security.tokens import (
        RIGHTS,
        Limits,
        Right,
        line_of,
        new_token,
        read_clients,
    )

    drawn = new_token(name)
    limits = Limits(items_per_s, concurrent, tokens_per_s, "background" if background else None)
    line = line_of(drawn, cast(list[Right], rights.split(",")), limits)
    unknown = set(rights.split(",")).difference(RIGHTS)
    if unknown:
        raise typer.BadParameter(f"--rights has {unknown.pop()!r}: there are {', '.join(RIGHTS)}")
    with _alone_with(file):
        before = "".join(lines_of(str(file), "--file")) if file is not None and file.exists() else ""
        if before and not before.endswith("\n"):
            before += "\n"
        read_clients(f"{before}{line}\n", "the line" if file is None else str(file))
        if file is not None:
            with writing(f"--file {file}"):
                replace_text(file, f"{before}{line}\n", mode=0o600)  # a server reads all of it or none
    with writing("standard output"):
        sys.stdout.write(f"{drawn}\n" if file is not None else f"token: {drawn}\nline:  {line}\n")


@contextmanager
def _alone_with(file: Path | None) -> Iterator[None]:
    """Waits for others that add a line to the file: each reads it and writes it anew, without the lines of others."""
    if file is None:
        yield
        return
    with writing(f"--file {file}"):
        folder = os.open(Path(os.path.realpath(file)).parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems have no locks of folders
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
