"""Words for a wrong value of a flag, which name the value and what it must be, whoever gave it."""

import re
from difflib import get_close_matches
from typing import Any

from rankport.runtime.options import range_in_words

_OUT_OF_RANGE = ("greater_than_equal", "less_than_equal")


def fault_of(error: Any) -> str:
    """Tells of a `typer.BadParameter` what is wrong, without the name of the flag."""
    found = _checked(error)
    if found is None:
        return str(error.message) or "it must not be empty"
    if found["type"] in _OUT_OF_RANGE:
        return f"it must be {range_in_words(error.param.min, error.param.max)}"
    return str(found["msg"]).removeprefix("Value error, ").rstrip(".")


def usage_fault(error: Any) -> str:
    """Tells of a command line that cannot be read what is wrong, with the name of the flag and its value."""
    found = _checked(error)
    if found is None:
        return " ".join(error.format_message().split()).removeprefix("Invalid value: ") + _nearest(error)
    return f"{max(error.param.opts, key=len)} is {found['input']!r:.80}: {fault_of(error)}"


def _nearest(error: Any) -> str:
    """Names the command that was meant, as typer does in groups whose commands it knows itself."""
    unknown = re.fullmatch(r"No such command '(.+)'\.?", str(error.message))
    commands = getattr(getattr(error.ctx, "command", None), "list_commands", None)
    if unknown is None or commands is None:
        return ""
    near = get_close_matches(unknown[1], commands(error.ctx), 1)
    return f" Did you mean '{near[0]}'?" if near else ""


def _checked(error: Any) -> Any:
    """Finds what the check of a value's type and range told: typer makes it of pydantic, whose words name no value."""
    cause = error.__cause__
    if cause is None or not hasattr(cause, "errors") or getattr(error, "param", None) is None:
        return None
    return cause.errors(include_url=False)[0]
