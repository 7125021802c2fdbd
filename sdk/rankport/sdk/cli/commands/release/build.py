"""`rankport build`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rankport.runtime.backends.tensorrt.build_options import BuildOptions
from rankport.runtime.backends.tensorrt.profile_limits import ProfileLimits
from rankport.sdk.cli.flags.dataclass_options import filled, flags_of, takes
from rankport.sdk.cli.flags.written import writable


@takes(*flags_of(ProfileLimits), *flags_of(BuildOptions))
def build(
    bundle: Annotated[
        Path, typer.Argument(help="Bundle directory; its TensorRT plans go into plans/ there.")
    ],
    target: Annotated[
        str,
        typer.Option(
            metavar="TARGET",
            help="tensorrt: for the data-centre GPU in this machine. tensorrt-rtx: for workstation and edge GPUs, here "
            "or elsewhere, by architecture: tensorrt-rtx:sm86,sm89,sm120 (the default three).",
        ),
    ],
    force: Annotated[bool, typer.Option("--force", help="Build also what is there and fits.")] = False,
    allow_unsupported_gpu: Annotated[
        bool,
        typer.Option(
            "--allow-unsupported-gpu",
            help="Build for the GPU at hand also where TensorRT-RTX does not list it: `serve` and `verify` try the "
            "plan if they are told the same.",
        ),
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write what was built here; - for stdout.", callback=writable),
    ] = None,
    **given: Any,
) -> None:
    """Build TensorRT plans from a bundle's graphs, into the bundle. What is there and still fits is left alone.

    A plan is TensorRT's serialized engine. Nodes that it does not take are all listed before anything is built. Plans
    depend on graph, weights, TensorRT's version, GPU, profiles and options: `rankport inspect` shows them, and what no
    longer fits.
    """
    from rankport.runtime.backends.tensorrt.build import BuildTarget, build_plans
    from rankport.runtime.kinds.table import open_bundle
    from rankport.sdk.cli.output.bundle.plans import built_as_json, print_built
    from rankport.sdk.cli.output.consoles import plain_console
    from rankport.sdk.cli.output.progress import steps
    from rankport.sdk.cli.output.writing import write_json

    chosen = BuildTarget.parse(target)
    limits, options = filled(ProfileLimits, given), filled(BuildOptions, given)
    console = plain_console(stderr=True)
    with steps(console) as on_step:
        opened = open_bundle(bundle)
        built = build_plans(
            opened,
            chosen,
            options=options,
            limits=limits,
            force=force,
            allow_unsupported_gpu=allow_unsupported_gpu,
            on_progress=on_step,
        )
    print_built(console, built)
    write_json(
        json_file,
        {
            "bundle": str(opened.path),
            "fingerprint": opened.manifest.fingerprint,
            "plans": built_as_json(opened.path, built),
        },
    )
