"""Every command of the command line, with its parameters: what a rule for all of them is held against."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import typer

from rankport.sdk.cli.app import command_tree


@cache
def all_commands() -> tuple[tuple[tuple[str, ...], Any], ...]:
    """Gives the words of each command, and the command; made once, for all who look at them."""
    return tuple(_below(typer.main.get_command(command_tree()), ()))


def _below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "list_commands"):
        yield words, command
        return
    context = command.make_context("rankport", [], resilient_parsing=True)
    for name in command.list_commands(context):
        yield from _below(command.get_command(context, name), (*words, name))


def option_name(parameter: Any) -> str:
    """Gives the longest spelling of an option, or the name of an argument."""
    return max(parameter.opts, key=len)
