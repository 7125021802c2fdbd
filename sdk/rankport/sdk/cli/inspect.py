"""`rankport inspect`."""

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    bundle: Annotated[Path, typer.Argument(help="Bundle directory.")],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the manifest here; - for stdout.")
    ] = None,
) -> None:
    """Show what a bundle is and what was measured of it. Every file's hash is checked on the way."""
    from rich.console import Console

    from rankport.runtime.bundle import Bundle
    from rankport.sdk.cli.tables import print_manifest, write_json

    manifest = Bundle.open(bundle).manifest
    print_manifest(Console(stderr=str(json_file) == "-"), manifest)
    write_json(json_file, manifest.model_dump(mode="json"))
