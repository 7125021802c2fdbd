"""How commands show the engines of a bundle."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from rankport.runtime.backends.tensorrt.build import BuiltEngine
    from rankport.runtime.backends.tensorrt.plan_key import EngineKey
    from rankport.runtime.backends.tensorrt.status import EngineStatus


def print_built(console: Console, built: "Sequence[BuiltEngine]") -> None:
    """One row an engine, and why one was built over another."""
    table = _table("Engines", ("graph", "for", "size", "state"))
    for one in built:
        key, plan = one.engine.record.key, one.engine.record.plan
        state = f"built in {one.seconds:.1f} s" if one.state == "built" else "there, fits"
        table.add_row(escape(key.graph), _machine(key), _size(plan.size), state)
        if one.replaced:
            console.print(
                escape(f"replaced the engine of {key.graph}: {one.replaced}"),
                style="yellow",
                soft_wrap=True,
            )
    console.print(table)


def print_engines(console: Console, engines: "Sequence[EngineStatus]") -> None:
    """What engines a bundle has and whether they still fit; nothing for a bundle without any."""
    if not engines:
        return
    table = _table("Engines", ("graph", "for", "with", "profiles", "size", "state"))
    for engine in engines:
        if engine.record is None:
            console.print(f"engine {engine.misfit}", style="bold red", soft_wrap=True, markup=False)
            continue
        key = engine.record.key
        table.add_row(
            escape(key.graph),
            _machine(key),
            escape(", ".join((f"{key.module} {key.module_version}", *_options(key)))),
            escape(", ".join(profile.name for profile in key.profiles)),
            _size(engine.record.plan.size),
            escape(engine.misfit or engine.other_version or "fits"),
            style="bold red" if engine.misfit else "yellow" if engine.other_version else None,
        )
    console.print(table)


def engines_as_json(engines: "Sequence[EngineStatus]") -> list[dict[str, object]]:
    """The same as JSON."""
    return [
        {
            "path": "/".join(engine.path.parts[-3:]),
            "fits": not engine.misfit,
            "misfit": engine.misfit,
            "other_version": engine.other_version,
            **(
                {}
                if engine.record is None
                else engine.record.model_dump(mode="json", include={"key", "plan"})
            ),
        }
        for engine in engines
    ]


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right" if heading == "size" else "left", overflow="fold")
    return table


def _machine(key: "EngineKey") -> str:
    return escape(f"{key.gpu} ({key.architecture})" if key.gpu else key.architecture)


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e6:.1f} MB"


def _options(key: "EngineKey") -> list[str]:
    fields = key.options.model_dump(exclude_defaults=True)
    return [
        name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {value}"
        for name, value in fields.items()
    ]
