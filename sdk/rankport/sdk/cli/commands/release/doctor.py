"""`rankport doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from rankport.runtime.self_test.self_test import SelfTestDevice
from rankport.sdk.cli.flags.written import writable


def doctor(
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test",
            help="Also build and run a small ranker on each device that is here, and compare its numbers with ONNX "
            "Runtime's on the CPU. Exit 1 if one is wrong, or breaks.",
        ),
    ] = False,
    device: Annotated[
        SelfTestDevice | None, typer.Option(help="With --self-test: this device alone. [default: all]")
    ] = None,
    allow_unsupported_gpu: Annotated[
        bool,
        typer.Option(
            "--allow-unsupported-gpu",
            help="With --self-test: try TensorRT also on a GPU that it does not list.",
        ),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write it here; - for stdout.", callback=writable)
    ] = None,
) -> None:
    """Show what this machine has (driver, GPU, libraries), which targets it can build and run, what to install.

    A target is what a bundle's graphs are exported for (onnx-cpu, onnx-cuda) or plans are built for (tensorrt,
    tensorrt-rtx).
    """
    if not self_test and (device is not None or allow_unsupported_gpu):
        raise typer.BadParameter("--device and --allow-unsupported-gpu go with --self-test")
    from dataclasses import asdict

    from rankport.runtime.doctor import diagnose
    from rankport.runtime.self_test.self_test import Line, has_failed, run_self_test
    from rankport.sdk.cli.output.consoles import plain_console
    from rankport.sdk.cli.output.doctor import print_diagnosis, print_self_test
    from rankport.sdk.cli.output.progress import steps
    from rankport.sdk.cli.output.writing import write_json

    diagnosis, lines = diagnose(), tuple[Line, ...]()
    console = plain_console(stderr=str(json_file) == "-")
    print_diagnosis(console, diagnosis)
    if self_test:
        with steps(plain_console(stderr=True)) as on_step:
            lines = run_self_test(
                device or "all", allow_unsupported_gpu=allow_unsupported_gpu, on_step=on_step
            )
        print_self_test(console, lines)
    tested = {"self_test": [asdict(line) for line in lines]} if self_test else {}
    write_json(json_file, asdict(diagnosis) | tested)
    if has_failed(lines):
        raise typer.Exit(1)
