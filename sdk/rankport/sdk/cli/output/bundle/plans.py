"""Tables of the plans of a bundle, as commands show them."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rankport.runtime.backends.tensorrt.build import BuiltPlan
from rankport.runtime.backends.tensorrt.plan_key import PlanKey
from rankport.runtime.backends.tensorrt.status import PlanStatus


def print_built(console: Console, built: Sequence[BuiltPlan]) -> None:
    """Prints a row a plan, and why one was built over another."""
    table = _table("TensorRT plans", ("graph", "for", "size", "state"))
    for plan in built:
        key, file = plan.plan.record.key, plan.plan.record.file
        state = f"built in {plan.seconds:.1f} s" if plan.state == "built" else "there, fits"
        table.add_row(key.graph, _machine(key), _size(file.size), state)
        if plan.replaced:
            console.print(
                f"replaced the plan of {key.graph}: {plan.replaced}",
                style="yellow",
                soft_wrap=True,
            )
    console.print(table)


def built_as_json(root: Path, built: Sequence[BuiltPlan]) -> list[dict[str, object]]:
    """Returns what `print_built` prints, as JSON; paths are below `root`."""
    return [
        {
            "path": plan.plan.path.relative_to(root).as_posix(),
            "state": plan.state,
            "seconds": round(plan.seconds, 3),
            "replaced": plan.replaced,
            **plan.plan.record.model_dump(mode="json", include={"key", "file"}),
        }
        for plan in built
    ]


def print_plans(console: Console, plans: Sequence[PlanStatus]) -> None:
    """Prints which plans a bundle has and whether they still fit; nothing for a bundle without any."""
    if not plans:
        return
    table = _table("TensorRT plans", ("graph", "for", "with", "profiles", "size", "state"))
    for plan in plans:
        if plan.record is None:
            console.print(f"plan {plan.misfit}", style="bold red", soft_wrap=True, markup=False)
            continue
        key = plan.record.key
        table.add_row(
            key.graph,
            _machine(key),
            ", ".join((f"{key.module} {key.module_version}", *_options(key))),
            ", ".join(profile.name for profile in key.profiles),
            _size(plan.record.file.size),
            plan.misfit or plan.other_version or "fits",
            style="bold red" if plan.misfit else "yellow" if plan.other_version else None,
        )
    console.print(table)


def plans_as_json(plans: Sequence[PlanStatus]) -> list[dict[str, object]]:
    """Returns what `print_plans` prints, as JSON."""
    return [
        {
            "path": "/".join(plan.path.parts[-3:]),
            "fits": not plan.misfit,
            "misfit": plan.misfit,
            "other_version": plan.other_version,
            **({} if plan.record is None else plan.record.model_dump(mode="json", include={"key", "file"})),
        }
        for plan in plans
    ]


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right" if heading == "size" else "left", overflow="fold")
    return table


def _machine(key: PlanKey) -> str:
    return f"{key.gpu} ({key.architecture})" if key.gpu else key.architecture


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e6:.1f} MB"


def _options(key: PlanKey) -> list[str]:
    fields = key.model_dump(exclude_defaults=True, include={"options"})["options"]
    return [
        name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {value}"
        for name, value in fields.items()
    ]
