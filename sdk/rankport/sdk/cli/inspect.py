"""`rankport inspect`."""

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    bundle: Annotated[Path, typer.Argument(help="Bundle directory.")],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write manifest and engines here; - for stdout.")
    ] = None,
) -> None:
    """Show what a bundle is, what was measured of it, and its engines. Every file's hash is checked on the way."""
    from rich.console import Console

    from rankport.runtime.backends.tensorrt.status import engine_statuses
    from rankport.runtime.kinds.table import open_bundle
    from rankport.sdk.cli.engine_tables import engines_as_json, print_engines
    from rankport.sdk.cli.tables import print_manifest, write_json

    opened = open_bundle(bundle)
    engines = engine_statuses(opened)
    console = Console(stderr=str(json_file) == "-")
    print_manifest(console, opened.manifest)
    print_engines(console, engines)
    write_json(json_file, opened.manifest.model_dump(mode="json") | {"engines": engines_as_json(engines)})
