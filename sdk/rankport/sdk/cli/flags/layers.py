"""Values of a command's flags from the environment and from a file in TOML, below those of the command line.

A flag `--max-pending-calls` is the variable `RANKPORT_SERVE_MAX_PENDING_CALLS` and the key `max_pending_calls` or
`max-pending-calls`; an argument goes by its name. The command line goes before the environment, that before the file,
that before the default. What is no flag is an error, in the file and among variables that begin like them.
"""

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import typer

from rankport.protos.errors import InvalidRequest
from rankport.runtime.server.settings.setting import Setting
from rankport.sdk.cli.flags.wrong_values import fault_of

PREFIX = "RANKPORT_SERVE_"
_NOT_SET = ("config", "check_config", "help")  # these say what to do with the others
_SOURCES = "rankport.sources"


def take_layers(context: typer.Context, given: Path | None) -> Path | None:
    """Takes up environment and file, as the callback of an eager `--config`.

    Raises `InvalidRequest` for what is no flag or not of its type, and a file that cannot be read.
    """
    if context.resilient_parsing:
        return given
    flags = {_key(flag): flag for flag in context.command.params if flag.name not in _NOT_SET}
    variables = _variables(flags)
    file = given or (Path(os.environ[f"{PREFIX}CONFIG"]) if os.environ.get(f"{PREFIX}CONFIG") else None)
    found = {} if file is None else {key: (value, str(file)) for key, value in _read(file, flags)}
    found |= {key: (os.environ[name], name) for name, key in variables.items()}
    values, sources = {}, {}
    for key, (value, source) in found.items():
        values[flags[key].name] = _as_flag(
            context, flags[key], value, f"{source}: {key}", source not in variables
        )
        sources[flags[key].name] = source
    context.default_map = values
    context.meta[_SOURCES] = sources
    return file


def settings(context: typer.Context) -> Iterator[Setting]:
    """Lists what a command was told, all flags in their order."""
    sources: Mapping[str, str] = context.meta.get(_SOURCES, {})
    for flag in context.command.params:
        if flag.name in _NOT_SET:
            continue
        origin = context.get_parameter_source(str(flag.name))
        source = "default" if origin is None or origin.name == "DEFAULT" else sources.get(str(flag.name), "")
        if origin is not None and origin.name == "COMMANDLINE":
            source = max(flag.opts, key=len)
        yield Setting(_key(flag), context.params[str(flag.name)], source)


def _key(flag: Any) -> str:
    """Makes the key of a flag: its longest spelling, or an argument's name."""
    name: str = max(flag.opts, key=len)
    return name.lstrip("-").replace("-", "_")


def _variables(flags: Mapping[str, Any]) -> dict[str, str]:
    """Finds the variables that say something, with their keys. An empty one says nothing."""
    keys: dict[str, str] = {}
    for name, value in os.environ.items():
        if not name.startswith(PREFIX) or not value or name == f"{PREFIX}CONFIG":
            continue
        key = name.removeprefix(PREFIX).lower()
        if key not in flags:
            near = _near(key, flags)
            raise InvalidRequest(
                f"variable {name} is no setting{f': {PREFIX}{near.upper()} is' if near else ''}"
            )
        keys[name] = key
    return keys


def _read(file: Path, flags: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InvalidRequest(f"--config {file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"--config {file} is no TOML: {error}") from error
    seen: dict[str, str] = {}
    for written, value in table.items():
        key = written.replace("-", "_")
        if key not in flags:
            near = _near(key, flags)
            hint = f": {near} is" if near else ""
            raise InvalidRequest(f"{file}: {written!r} is no setting{hint}{_table_hint(value)}")
        if key in seen:
            raise InvalidRequest(f"{file}: {written!r} and {seen[key]!r} are one setting: give one of them")
        seen[key] = written
        yield key, value


def _near(key: str, flags: Iterable[str]) -> str:
    return next(iter(get_close_matches(key, list(flags), 1)), "")


def _table_hint(value: object) -> str:
    return "; settings stand in no table" if isinstance(value, dict) else ""


def _as_flag(context: typer.Context, flag: Any, value: object, where: str, typed: bool) -> object:
    """Makes of a value what the command line would make of it, and tries it. `typed`: it is of TOML."""
    try:
        written = _written(flag, value, typed)
        read = flag.process_value(context, written)
        if typed:
            _check_type(value, read)
    except typer.BadParameter as error:
        raise InvalidRequest(f"{where} is {value!r:.80}: {fault_of(error)}") from error
    return written


def _written(flag: Any, value: object, typed: bool) -> object:
    is_flag = bool(getattr(flag, "is_flag", False))
    if typed and is_flag and not isinstance(value, bool):
        raise typer.BadParameter("it is true or false")
    if flag.nargs == -1 or getattr(flag, "multiple", False):
        if isinstance(value, list):
            return [_text(each) for each in value]
        if not isinstance(value, str):
            raise typer.BadParameter("it is a list of texts")
        return [_text(value)] if typed else value.split()
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return value if is_flag and typed else _text(value)


def _check_type(value: object, read: Any) -> None:
    """Raises `BadParameter` for a value of TOML that is of another type than what was read of it."""
    if isinstance(value, list) and not isinstance(read, list | tuple):
        raise typer.BadParameter("it is one value, not a list")
    pairs = zip(value, read, strict=False) if isinstance(value, list) else [(value, read)]
    if any(isinstance(text, str) and not isinstance(each, str) for each, text in pairs):
        raise typer.BadParameter("it is text: put it in quotes")


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise typer.BadParameter("it is neither text nor a number")
    if isinstance(value, str) and "\0" in value:
        raise typer.BadParameter("it has a character that no path or name may have")
    return str(value)
