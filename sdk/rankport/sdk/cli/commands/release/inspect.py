"""`rankport inspect`."""

from pathlib import Path
from typing import Annotated

import typer

from rankport.sdk.cli.flags.written import writable


def inspect(
    bundle: Annotated[Path, typer.Argument(help="Bundle directory.")],
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", help="Write manifest and TensorRT plans here; - for stdout.", callback=writable
        ),
    ] = None,
) -> None:
    """Show what a bundle is, what was measured of it, and its plans. Every file's hash is checked on the way."""
    from rankport.runtime.backends.tensorrt.status import check_plans
    from rankport.runtime.kinds.table import open_bundle
    from rankport.sdk.cli.output.bundle.manifest import print_manifest
    from rankport.sdk.cli.output.bundle.plans import plans_as_json, print_plans
    from rankport.sdk.cli.output.consoles import plain_console
    from rankport.sdk.cli.output.writing import write_json

    opened = open_bundle(bundle)
    plans = check_plans(opened)
    console = plain_console(stderr=str(json_file) == "-")
    print_manifest(console, opened.manifest)
    print_plans(console, plans)
    write_json(json_file, opened.manifest.model_dump(mode="json") | {"plans": plans_as_json(plans)})
