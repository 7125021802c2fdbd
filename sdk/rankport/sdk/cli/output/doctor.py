"""Tables of `rankport doctor`."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rankport.runtime.doctor import Diagnosis
from rankport.runtime.self_test.self_test import Line

_STYLES = {"right": "green", "built": "green", "not run": "", "wrong": "bold red", "failed": "bold red"}


def print_diagnosis(console: Console, diagnosis: Diagnosis) -> None:
    """Prints what the machine has, what it can build and run, and what to install."""
    machine = Table(title="This machine", title_justify="left", show_header=False)
    machine.add_column(style="bold")
    machine.add_column(overflow="fold")
    for name, value in _facts(diagnosis):
        machine.add_row(name, value)
    console.print(machine)
    targets = Table(title="Targets", title_justify="left")
    for heading in ("target", "build here", "run here"):
        targets.add_column(heading, overflow="fold")
    for target in diagnosis.targets:
        targets.add_row(target.name, *(why or "yes" for why in (target.build_problem, target.run_problem)))
    console.print(targets)
    for target in diagnosis.targets:
        if target.install:
            console.print(f"{target.name}: {target.install}", soft_wrap=True, highlight=False)


def print_self_test(console: Console, lines: tuple[Line, ...]) -> None:
    """Prints what each step of a self-test ran, how far it was off, and why one did not run."""
    table = Table(title="Self-test", title_justify="left")
    for heading in ("step", "version", "GPU", "off by", "limit", "verdict"):
        table.add_column(heading, overflow="fold")
    for line in lines:
        table.add_row(
            line.step,
            line.version,
            line.gpu,
            *("" if value is None else f"{value:.1e}" for value in (line.largest_difference, line.limit)),
            Text(line.verdict, style=_STYLES[line.verdict]),
        )
    console.print(table)
    for line in lines:
        words = "; ".join(part for part in (line.ran, line.reason) if part)
        console.print(f"{line.step}: {words} ({line.seconds:.1f} s)", soft_wrap=True, highlight=False)


def _facts(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    gpus = [f"{gpu.name} ({gpu.architecture}, {gpu.memory_bytes / 2**30:.0f} GiB)" for gpu in diagnosis.gpus]
    return [
        ("python", f"{diagnosis.python}, {diagnosis.machine}"),
        (
            "driver",
            f"{diagnosis.driver or 'none'}, CUDA {diagnosis.cuda}"
            if diagnosis.cuda
            else diagnosis.driver or "none",
        ),
        ("GPUs", ", ".join(gpus) or "none"),
        ("providers of onnxruntime", ", ".join(diagnosis.onnxruntime_providers) or "none"),
        *((package.name, package.version or "not installed") for package in diagnosis.packages),
    ]
