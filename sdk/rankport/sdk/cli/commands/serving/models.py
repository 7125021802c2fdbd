"""`rankport models`: versions of a running server's models, and their aliases."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rankport.protos.versions import ModelAlias, ModelState, ModelVersion
from rankport.sdk.model_admin import ModelAdmin

Server = Annotated[
    str, typer.Option(metavar="HOST:PORT", help="Where the server answers calls of this kind.")
]
Timeout = Annotated[float | None, typer.Option(help="Give up after this many seconds.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
_LOCAL = "localhost:8500"


def models() -> typer.Typer:
    """Makes the command group."""
    group = typer.Typer(
        help="Load, unload and switch the models of a running server.",
        no_args_is_help=True,
        add_completion=False,
    )
    group.callback()(_group)
    group.command("list")(list_versions)
    for command in (load, unload, alias, rollback):
        group.command()(command)
    return group


def _group() -> None:
    """Load, unload and switch the models of a running server."""


def list_versions(server: Server = _LOCAL, timeout_s: Timeout = 10.0, as_json: Json = False) -> None:
    """List versions with what each is doing, and aliases with what they stand for."""
    from rankport.sdk.cli.output.versions import write_versions

    with _admin(server) as admin:
        write_versions(admin.versions(timeout_s), as_json)


def load(
    path: Annotated[
        str, typer.Argument(help="Bundle at the server, absolute or below a --model-root of its.")
    ],
    name: Annotated[str, typer.Option(help="Serve it as this. [default: its manifest's name]")] = "",
    version: Annotated[str, typer.Option(help="... in this version. [default: its manifest's]")] = "",
    alias: Annotated[str, typer.Option(help="Move this alias to it once it is ready.")] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Unload what --alias named before, once it is drained.")
    ] = False,
    server: Server = _LOCAL,
    timeout_s: Timeout = None,
    as_json: Json = False,
) -> None:
    """Load a bundle beside those that are served, and warm it up. A bad one changes nothing."""
    if replace and not alias:
        raise typer.BadParameter("--replace goes with --alias")
    with _admin(server) as admin:
        loaded = admin.load(path, name, version, alias=alias, replace=replace, timeout_s=timeout_s)
    _write_version(loaded, as_json)


def unload(
    model: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="Version that no alias names.")],
    server: Server = _LOCAL,
    timeout_s: Timeout = None,
    as_json: Json = False,
) -> None:
    """Have a version finish the requests that it has, and close it."""
    with _admin(server) as admin:
        last = admin.unload(model, timeout_s)
        # As it was last: one that could not be had at the start is forgotten as it is.
        _write_version(last, as_json, "unloaded" if last.state is ModelState.DRAINING else "")


def alias(
    alias: Annotated[str, typer.Argument(help="Name that requests use as the model.")],
    to: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME@VERSION[=WEIGHT]...", help="One version, or several by weight: jobs@1=95 jobs@2=5."
        ),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the alias.")] = False,
    server: Server = _LOCAL,
    timeout_s: Timeout = 10.0,
    as_json: Json = False,
) -> None:
    """Have an alias stand for a version, or for shares of several; requests that are under way keep theirs."""
    if remove == bool(to):
        raise typer.BadParameter("give the versions that it stands for, or --remove")
    with _admin(server) as admin:
        if remove:
            admin.remove_alias(alias, timeout_s)
            _write_alias(ModelAlias(alias, ()), as_json)
        else:
            shares = dict(map(_share, to or []))
            if len(shares) < len(to or []):
                raise typer.BadParameter(
                    f"{' '.join(to or [])}: a version is named twice: give its whole weight once"
                )
            _write_alias(admin.set_alias(alias, shares, timeout_s), as_json)


def rollback(
    alias: Annotated[str, typer.Argument(help="Alias to set back by one change.")],
    server: Server = _LOCAL,
    timeout_s: Timeout = 10.0,
    as_json: Json = False,
) -> None:
    """Set an alias back to what it stood for before its last change."""
    with _admin(server) as admin:
        _write_alias(admin.roll_back(alias, timeout_s), as_json)


@contextmanager
def _admin(server: str) -> Iterator[ModelAdmin]:
    from rankport.sdk.cli.flags.connection import connected

    with connected(server) as client:
        yield client.admin


def _share(entry: str) -> tuple[str, float]:
    model, separator, weight = entry.rpartition("=")
    if not separator:
        return entry, 1.0
    try:
        return model, float(weight)
    except ValueError:
        raise typer.BadParameter(f"{entry!r} has no number behind '=': give NAME@VERSION=WEIGHT") from None


def _write_version(version: ModelVersion, as_json: bool, state: str = "") -> None:
    from rankport.sdk.cli.output.versions import line_of
    from rankport.sdk.cli.output.writing import write_json, writing

    with writing("standard output"):
        if as_json:
            write_json(Path("-"), asdict(version))
        else:
            print(line_of(version, state))


def _write_alias(alias: ModelAlias, as_json: bool) -> None:
    from rankport.sdk.cli.output.versions import alias_line
    from rankport.sdk.cli.output.writing import write_json, writing

    with writing("standard output"):
        if as_json:
            write_json(Path("-"), asdict(alias))
        else:
            print(alias_line(alias))
