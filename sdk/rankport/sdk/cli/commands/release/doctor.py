"""`rankport doctor`."""

from pathlib import Path
from typing import Annotated

import typer


def doctor(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write it here; - for stdout.")] = None,
) -> None:
    """Show what this machine has (driver, GPU, libraries), which targets it can build and run, what to install.

    A target is what a bundle's graphs are exported for (onnx-cpu, onnx-cuda) or plans are built for (tensorrt,
    tensorrt-rtx).
    """
    from dataclasses import asdict

    from rich.console import Console

    from rankport.runtime.doctor import diagnose
    from rankport.sdk.cli.output.doctor import print_diagnosis
    from rankport.sdk.cli.output.writing import write_json

    diagnosis = diagnose()
    print_diagnosis(Console(stderr=str(json_file) == "-"), diagnosis)
    write_json(json_file, asdict(diagnosis))
