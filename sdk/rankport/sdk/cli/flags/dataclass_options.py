"""Flags of a command, made from fields of dataclasses: name, type, default, range and help stand in the field alone.

    @takes(*flags_of(ServerConfig, panel="Server"))
    def serve(bundles: ..., **given: Any) -> None:
        config = filled(ServerConfig, given)

A field says its help by `rankport.protos.flags.flag`; one without is no flag. A field that is a dataclass itself gives
the flags of its own fields. Text joined by commas becomes a tuple.
"""

import dataclasses
import inspect
import os
import types
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import typer

from rankport.protos.errors import InvalidRequest
from rankport.runtime.options import size_in_bytes, size_in_words
from rankport.sdk.cli.flags.device_options import gpu_numbers

CommandT = TypeVar("CommandT", bound=Callable[..., object])
T = TypeVar("T")

_PARSERS: Mapping[str, Callable[[str], object]] = {"size": size_in_bytes, "gpus": gpu_numbers}


def flags_of(
    options: type,
    *,
    panel: str | None = None,
    only: Container[str] | None = None,
    elsewhere: Mapping[str, Any] = MappingProxyType({}),
    more: str = "",
) -> list[inspect.Parameter]:
    """Makes the flags of a dataclass, or of some of its fields. `panel` heads them in the help, `more` ends each.

    `elsewhere` has instances with other defaults, by where those hold: the help of a flag whose default depends says
    both, and the flag is None where it is not given.
    """
    return [
        _flag(
            field,
            kind,
            panel,
            {where: getattr(other, field.name) for where, other in elsewhere.items()},
            more,
        )
        for field, kind in _fields(options)
        if only is None or field.name in only
    ]


def takes(*flags: inspect.Parameter) -> Callable[[CommandT], CommandT]:
    """Gives a command flags in the place of its `**given`: a mapping of all of them by their fields' names."""

    def decorate(command: CommandT) -> CommandT:
        signature = inspect.signature(command)
        own = list(signature.parameters.values())
        place = next(i for i, parameter in enumerate(own) if parameter.kind is parameter.VAR_KEYWORD)
        parameters = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in (*own[:place], *flags, *own[place + 1 :])
        ]
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return command

    return decorate


def filled(options: type[T], given: Mapping[str, object]) -> T:
    """Makes the dataclass of the flags given. Raises what the dataclass does for a wrong value."""
    return options(**values_of(options, given))


def values_of(options: type, given: Mapping[str, object]) -> dict[str, object]:
    """Picks the values that differ from their defaults, by field, as the dataclass takes them."""
    values: dict[str, object] = {}
    hints = get_type_hints(options)
    for field in dataclasses.fields(options):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            inner = values_of(kind, given)  # type: ignore[arg-type]
            if inner:
                values[field.name] = kind(**inner)  # type: ignore[operator]
        elif field.name in given and given[field.name] != field.default:
            values[field.name] = _split(field, kind, given[field.name])
    return values


def given_values(options: type, given: Mapping[str, object]) -> dict[str, Any]:
    """Picks the values of a dataclass's flags, defaults among them, by field, as the dataclass takes them."""
    return {
        field.name: _split(field, kind, given[field.name])
        for field, kind in _fields(options)
        if field.name in given
    }


def _fields(options: type) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    hints = get_type_hints(options)
    for field in dataclasses.fields(options):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            yield from _fields(cast(type, kind))
        elif "help" in field.metadata:
            yield field, kind


def _flag(
    field: dataclasses.Field[Any], kind: Any, panel: str | None, others: Mapping[str, object], more: str
) -> inspect.Parameter:
    words = field.metadata
    depends = any(other != field.default for other in others.values())
    option = typer.Option(
        *([words["name"]] if "name" in words else []),
        help=words["help"] + (_defaults_in_words(field, others) if depends else "") + more,
        metavar=words.get("metavar"),
        min=words.get("least") if _is_number(field) else None,
        max=words.get("most") if _is_number(field) else None,
        rich_help_panel=words.get("panel", panel),
        show_default=not depends and not words.get("hide_default", False),
        parser=_parser(words.get("form", "")),
    )
    typed = list[get_args(kind)[0]] if words.get("form") == "repeat" else _as_typed(kind)  # type: ignore[misc]
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None if depends else _in_words(field, field.default),
        annotation=Annotated[typed | None if depends else typed, option],
    )


def _parser(form: str) -> Callable[[object], object] | None:
    """Makes what reads a form for typer, which gives it defaults too, and takes its errors for wrong usage."""
    if form not in _PARSERS:
        return None

    def parse(value: object) -> object:
        try:
            return _PARSERS[form](value) if isinstance(value, str) else value
        except InvalidRequest as error:
            raise typer.BadParameter(str(error)) from error

    return parse


def _is_number(field: dataclasses.Field[Any]) -> bool:
    return "form" not in field.metadata


def _defaults_in_words(field: dataclasses.Field[Any], others: Mapping[str, object]) -> str:
    words = [f"{_in_words(field, field.default)}"]
    words += [f"on {where} {_in_words(field, other)}" for where, other in others.items()]
    return f" [default: {'; '.join(words)}]"


def _in_words(field: dataclasses.Field[Any], value: Any) -> Any:
    """Writes a default as the flag reads it."""
    match field.metadata.get("form"):
        case "size" if value is not None:
            return size_in_words(value)
        case "gpus":
            return ",".join(map(str, value))
        case "repeat":
            return list(value)
        case _:
            return value


def _as_typed(kind: Any) -> Any:
    """Gives the type in which a command line takes a field: paths for what may be one, text for a tuple."""
    members = [member for member in _members(kind) if member is not type(None)]
    typed: Any
    if any(get_origin(member) is os.PathLike for member in members):
        typed = Path
    elif any(get_origin(member) is tuple for member in members):
        typed = str
    elif all(get_origin(member) is Literal for member in members):
        typed = Literal[tuple(choice for member in members for choice in get_args(member))]
    else:
        (typed,) = members
    return typed | None if type(None) in _members(kind) else typed


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _split(field: dataclasses.Field[Any], kind: Any, value: object) -> object:
    """Makes a tuple of what a flag was given again and again, or of text with commas where the field is a tuple."""
    if isinstance(value, list):
        return tuple(value)
    members = _members(kind)
    tuples = [member for member in members if get_origin(member) is tuple]
    if (
        not tuples
        or str in members
        or field.metadata.get("form") in ("tokens", "names")
        or not isinstance(value, str)
    ):
        return value
    element = get_args(tuples[0])[0]
    try:
        return tuple(element(word.strip()) for word in value.split(","))
    except ValueError:
        hint = f"--{field.name.replace('_', '-')}"
        raise typer.BadParameter(
            f"{value!r} is not a comma-separated list of whole numbers", param_hint=hint
        ) from None
