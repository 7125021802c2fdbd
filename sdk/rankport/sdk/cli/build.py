"""`rankport build`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rankport.runtime.backends.tensorrt.profile_limits import ProfileLimits

if TYPE_CHECKING:
    from rankport.runtime.backends.tensorrt.build import BuiltEngine

LIMITS = ProfileLimits()


def build(
    bundle: Annotated[Path, typer.Argument(help="Bundle directory; its engines go into engines/ there.")],
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
            help="tensorrt: one engine for every GPU from Ampere on, at some loss of speed.",
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
    """Make TensorRT engines from a bundle's graphs, into the bundle. What is there and still fits is left alone.

    Nodes that TensorRT does not take are all listed before anything is built. An engine depends on graph, weights,
    TensorRT's version, GPU, profiles and options: `rankport inspect` shows them, and what no longer fits.

    Example: `rankport build ranker.bundle --target tensorrt-rtx:sm89 --max-batch-tokens 8192`
    """
    from rich.console import Console

    from rankport.runtime.backends.tensorrt.build import BuildTarget, build_engines
    from rankport.runtime.backends.tensorrt.plan_key import BuildOptions
    from rankport.runtime.kinds.table import open_bundle
    from rankport.sdk.cli.engine_tables import print_built
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
        built = build_engines(
            opened, chosen, options=options, limits=limits, force=force, on_progress=on_step
        )
    print_built(console, built)
    write_json(
        json_file,
        {
            "bundle": str(opened.path),
            "fingerprint": opened.manifest.fingerprint,
            "engines": [_as_json(opened.path, one) for one in built],
        },
    )


def _as_json(root: Path, built: "BuiltEngine") -> dict[str, object]:
    return {
        "path": built.engine.path.relative_to(root).as_posix(),
        "state": built.state,
        "seconds": round(built.seconds, 3),
        "replaced": built.replaced,
        **built.engine.record.model_dump(mode="json", include={"key", "plan"}),
    }
