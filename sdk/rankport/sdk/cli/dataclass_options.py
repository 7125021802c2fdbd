"""Flags of a command, made from the fields of dataclasses: name, type, default and help stand in the field alone.

    @takes(*flags_of(EngineConfig, panel="Engine"))
    def serve(bundles: ..., **given: Any) -> None:
        config = filled(EngineConfig, given)

A field says its help by `rankport.protos.flags.flag`; one without is no flag. A field that is a dataclass itself gives
the flags of its own fields. Text joined by commas becomes a tuple.
"""

import dataclasses
import inspect
import os
import types
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import typer

from rankport.sdk.cli.device_options import gpu_numbers, size_in_bytes

CommandT = TypeVar("CommandT", bound=Callable[..., object])
T = TypeVar("T")

_PARSERS: Mapping[str, Callable[[str], object]] = {"size": size_in_bytes, "gpus": gpu_numbers}


def flags_of(
    options: type, *, panel: str | None = None, only: Container[str] | None = None
) -> list[inspect.Parameter]:
    """Makes the flags of a dataclass, or of some of its fields. `panel` heads them in the help."""
    return [
        _flag(field, kind, panel) for field, kind in _fields(options) if only is None or field.name in only
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


def _fields(options: type) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    hints = get_type_hints(options)
    for field in dataclasses.fields(options):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            yield from _fields(cast(type, kind))
        elif "help" in field.metadata:
            yield field, kind


def _flag(field: dataclasses.Field[Any], kind: Any, panel: str | None) -> inspect.Parameter:
    words = field.metadata
    names = [words["name"]] if "name" in words else []
    option = typer.Option(
        *names,
        help=words["help"],
        metavar=words.get("metavar"),
        rich_help_panel=words.get("panel", panel),
        show_default=not words.get("hide_default", False),
        parser=_PARSERS.get(words.get("form", "")),
    )
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=field.default,
        annotation=Annotated[_as_typed(kind), option],
    )


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
    """Splits text at its commas where the field is a tuple and no text."""
    members = _members(kind)
    tuples = [member for member in members if get_origin(member) is tuple]
    if not tuples or str in members or not isinstance(value, str):
        return value
    element = get_args(tuples[0])[0]
    try:
        return tuple(element(word.strip()) for word in value.split(","))
    except ValueError:
        hint = f"--{field.name.replace('_', '-')}"
        raise typer.BadParameter(
            f"{value!r} is not a comma-separated list of whole numbers", param_hint=hint
        ) from None
