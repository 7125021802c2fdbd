"""Checks that options have in common, whose messages name the flag."""

from collections.abc import Mapping

from rankport.protos.errors import InvalidRequest


def flag_name(option: str) -> str:
    """Spells an option as a flag."""
    return f"--{option.replace('_', '-')}"


def refuse_for_modules(options: Mapping[str, object]) -> None:
    """Raises InvalidRequest for an option that a checkpoint's folder alone has a use for, not a module in memory."""
    for option in ("base", "ignore_remote_code"):
        if options.get(option):
            raise InvalidRequest(f"{option} is of a checkpoint's folder, and a module is given: leave it out")


def require_names(option: str, names: object) -> None:
    """Raises InvalidRequest for text where a list of names must be: its characters would be taken for them."""
    if isinstance(names, str):
        raise InvalidRequest(f"{option} is {names!r}: give a list of names, [{names!r}]")


def require_choice(option: str, value: object, choices: tuple[object, ...]) -> None:
    """Raises InvalidRequest for a value that is given and none of the choices."""
    if value is not None and value not in choices:
        ask, between = ("use one of", ", ") if len(choices) > 2 else ("use", " or ")
        raise InvalidRequest(f"{flag_name(option)} is {value!r}: {ask} {between.join(map(str, choices))}")


def require_count(option: str, value: object, *, least: int) -> None:
    """Raises InvalidRequest for a value that is given and no whole number from `least` on."""
    if value is not None and (not isinstance(value, int) or value < least):
        raise InvalidRequest(f"{flag_name(option)} is {value!r}: must be a whole number from {least} on")
