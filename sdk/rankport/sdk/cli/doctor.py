"""`rankport doctor`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from rankport.runtime.doctor import Diagnosis


def doctor(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the same here; - for stdout.")
    ] = None,
) -> None:
    """Show what this machine has (driver, GPU, libraries), which targets it can build and run, what to install.

    A target is what a bundle's graphs are exported for (onnx-cpu, onnx-cuda) or plans are built for (tensorrt,
    tensorrt-rtx).
    """
    from dataclasses import asdict

    from rich.console import Console

    from rankport.runtime.doctor import diagnose
    from rankport.sdk.cli.tables import write_json

    found = diagnose()
    _print(Console(stderr=str(json_file) == "-"), found)
    write_json(json_file, asdict(found))


def _print(console: "Console", found: "Diagnosis") -> None:
    from rich.markup import escape
    from rich.table import Table

    machine = Table(title="This machine", title_justify="left", show_header=False)
    machine.add_column(style="bold")
    machine.add_column(overflow="fold")
    for name, value in _facts(found):
        machine.add_row(name, escape(value))
    console.print(machine)
    targets = Table(title="Targets", title_justify="left")
    for heading in ("target", "build here", "run here"):
        targets.add_column(heading, overflow="fold")
    for target in found.targets:
        targets.add_row(
            target.name, *(escape(why or "yes") for why in (target.build_problem, target.run_problem))
        )
    console.print(targets)
    for target in found.targets:
        if target.install:
            console.print(f"{target.name}: {escape(target.install)}", soft_wrap=True, highlight=False)


def _facts(found: "Diagnosis") -> list[tuple[str, str]]:
    gpus = [f"{gpu.name} ({gpu.architecture}, {gpu.memory_bytes / 2**30:.0f} GiB)" for gpu in found.gpus]
    return [
        ("python", f"{found.python}, {found.machine}"),
        ("driver", f"{found.driver or 'none'}, CUDA {found.cuda}" if found.cuda else found.driver or "none"),
        ("GPUs", ", ".join(gpus) or "none"),
        ("providers of onnxruntime", ", ".join(found.onnxruntime_providers) or "none"),
        *((package.name, package.version or "not installed") for package in found.packages),
    ]
