"""Long words of the help, folded where a terminal is too narrow for them: typer cuts them, and two flags look alike."""

from collections.abc import Iterator
from functools import partial
from typing import Any


def fold_names(command: Any) -> None:
    """Has the help of a command, or of all of a group, show names of flags and other long words to their end."""
    for below in getattr(command, "commands", {}).values():
        fold_names(below)
    command.format_help = partial(_format_help, command.format_help)


def _format_help(write: Any, context: Any, formatter: Any) -> None:
    from rich.columns import Columns
    from rich.table import Table
    from typer import rich_utils

    class Folding(Table):
        """Table of flags whose cells fold."""

        def add_row(self, *cells: Any, **options: Any) -> None:
            super().add_row(*cells, **options)
            _fold(self)

    class FoldingHelp(Columns):
        """Help of a flag and its default, beside each other where there is room, whose cells fold."""

        def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
            for part in super().__rich_console__(console, options):
                _fold(part)
                yield part

    def _fold(table: Any) -> None:
        for column in getattr(table, "columns", ()):
            column.overflow = "fold"

    rich_utils.Table, rich_utils.Columns = Folding, FoldingHelp  # type: ignore[attr-defined]
    try:
        write(context, formatter)
    finally:
        rich_utils.Table, rich_utils.Columns = Table, Columns  # type: ignore[attr-defined]
