"""`rankport build`."""

from pathlib import Path
from typing import Annotated

import typer

from rankport.runtime.backends.tensorrt.profile_limits import ProfileLimits

LIMITS = ProfileLimits()


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
    max_batch_tokens: Annotated[
        int, typer.Option(help="Most tokens of items in one pass: what `rankport serve` is told, or more.")
    ] = LIMITS.max_batch_tokens,
    max_prefixes: Annotated[int, typer.Option(help="Most prefixes in one pass.")] = LIMITS.max_prefixes,
    strip_weights: Annotated[
        bool,
        typer.Option(
            "--strip-weights",
            help="Leave weights out: they come from the bundle's own file at load. Needs a GPU.",
        ),
    ] = False,
    hardware_compatible: Annotated[
        bool,
        typer.Option(
            "--hardware-compatible",
            help="tensorrt: one plan for every GPU from Ampere on, at some loss of speed.",
        ),
    ] = False,
    tf32: Annotated[
        bool,
        typer.Option("--tf32", help="Let float32 products round their inputs to TF32: faster, less exact."),
    ] = False,
    optimization_level: Annotated[
        int | None,
        typer.Option(min=0, max=5, help="tensorrt: effort of the builder, 0 to 5. [default: its own]"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build also what is there and fits.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write what was built here; - for stdout.")
    ] = None,
) -> None:
    """Build TensorRT plans from a bundle's graphs, into the bundle. What is there and still fits is left alone.

    A plan is TensorRT's serialized engine. Nodes that it does not take are all listed before anything is built. Plans
    depend on graph, weights, TensorRT's version, GPU, profiles and options: `rankport inspect` shows them, and what no
    longer fits.

    Example: `rankport build ranker.bundle --target tensorrt-rtx:sm89 --max-batch-tokens 8192`
    """
    from rich.console import Console

    from rankport.runtime.backends.tensorrt.build import BuildTarget, build_plans
    from rankport.runtime.backends.tensorrt.plan_key import BuildOptions
    from rankport.runtime.kinds.table import open_bundle
    from rankport.sdk.cli.plan_tables import built_as_json, print_built
    from rankport.sdk.cli.progress import steps
    from rankport.sdk.cli.tables import write_json

    chosen = BuildTarget.parse(target)
    limits = ProfileLimits(max_batch_tokens, max_prefixes)
    options = BuildOptions(
        strip_weights=strip_weights,
        hardware_compatible=hardware_compatible,
        tf32=tf32,
        optimization_level=optimization_level,
    )
    console = Console(stderr=True)
    with steps(console) as on_step:
        opened = open_bundle(bundle)
        built = build_plans(opened, chosen, options=options, limits=limits, force=force, on_progress=on_step)
    print_built(console, built)
    write_json(
        json_file,
        {
            "bundle": str(opened.path),
            "fingerprint": opened.manifest.fingerprint,
            "plans": built_as_json(opened.path, built),
        },
    )
