"""Options that export and verify share beside those of their dataclasses: where the proof is written."""

from pathlib import Path
from typing import Annotated

import typer

from rankport.sdk.cli.flags.written import writable

JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write the figures here too; - for stdout.", callback=writable)
]
HtmlFile = Annotated[
    Path | None, typer.Option("--html", help="Write the proof as a page here too.", callback=writable)
]
