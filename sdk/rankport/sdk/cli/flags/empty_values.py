"""Empty values of a command line, as scripts make them of a variable that is not set: refused where they say nothing.

An empty path would be the folder that a command runs in, and an empty word what nobody asked for.
"""

from functools import partial
from typing import Any

import typer

MAY_BE_EMPTY = frozenset({"--prefix", "--separator", "items", "texts", "prompt"})
"""Options and arguments that are text themselves; of others only what is empty by default."""


def refuse_empty(command: Any) -> None:
    """Has a command, or all of a group, refuse empty values by name."""
    for below in getattr(command, "commands", {}).values():
        refuse_empty(below)
    for param in command.params:
        if max(param.opts, key=len) not in MAY_BE_EMPTY and param.default != "":
            param.process_value = partial(_checked, param, param.process_value)


def _checked(param: Any, process: Any, context: typer.Context, value: Any) -> Any:
    if value == "" or (isinstance(value, list | tuple) and "" in value):
        otherwise = "" if param.required else ", or leave it out"
        raise typer.BadParameter(f"it is empty: give a value{otherwise}", ctx=context, param=param)
    return process(context, value)
