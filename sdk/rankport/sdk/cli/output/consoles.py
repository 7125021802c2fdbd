"""Consoles that print texts as they are."""

from typing import IO

from rich.console import Console


def plain_console(*, stderr: bool = False, file: IO[str] | None = None, soft_wrap: bool = False) -> Console:
    """Makes a console to which brackets and colons are no markup: paths, tokens and messages have them."""
    return Console(stderr=stderr, file=file, soft_wrap=soft_wrap, markup=False, emoji=False)
