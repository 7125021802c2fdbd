"""Names of flags in the help, folded where the terminal is too narrow for them: typer cuts them, and two look alike."""

from functools import partial
from typing import Any


def fold_names(command: Any) -> None:
    """Has the help of a command, or of all of a group, show the names of its flags to their end."""
    for below in getattr(command, "commands", {}).values():
        fold_names(below)
    command.format_help = partial(_format_help, command.format_help)


def _format_help(write: Any, context: Any, formatter: Any) -> None:
    from typer import rich_utils

    names = (
        "highlighter",
        "negative_highlighter",
    )  # through which typer passes names of flags, and no other cell
    before = {name: getattr(rich_utils, name) for name in names}
    try:
        for name in names:
            setattr(rich_utils, name, partial(_folded, before[name]))
        write(context, formatter)
    finally:
        for name in names:
            setattr(rich_utils, name, before[name])


def _folded(highlight: Any, words: Any) -> Any:
    text = highlight(words)
    text.overflow = "fold"
    return text
