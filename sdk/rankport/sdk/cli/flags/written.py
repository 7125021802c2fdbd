"""Flags by which a result is written."""

from pathlib import Path
from typing import Literal

import typer

Format = Literal["table", "csv", "json"]


def written_format(form: Format | None, as_json: bool, out: Path | None) -> Format:
    """Chooses how a result is written: as asked, or by the ending of --out. Raises `typer.BadParameter`."""
    if as_json and form not in (None, "json"):
        raise typer.BadParameter(f"--json and --format {form} contradict each other: give one of them")
    if form is not None or as_json:
        return form or "json"
    if out is None:
        return "table"
    endings: dict[str, Format] = {".csv": "csv", ".json": "json"}
    if out.suffix not in endings:
        raise typer.BadParameter(f"--out {out}: its ending says no format: give .csv, .json or --format")
    return endings[out.suffix]
