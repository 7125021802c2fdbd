"""Values of results as they are written: to a file or standard output, as cells, CSV and JSON."""

import math
import re
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any, TextIO

from rankport.protos.tables import TableColumn
from rankport.sdk.cli.output.writing import write_file, writing

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def write_out(write: Callable[[TextIO], None], file: Path | None) -> None:
    """Has a result written to a file, which is replaced, or to standard output."""
    if file is None:
        with writing("standard output"):
            write(sys.stdout)
        return
    text = StringIO(newline="")
    write(text)
    write_file("--out", file, text.getvalue())


def csv_values(column: TableColumn) -> list[object]:
    """Takes values as they are; of a number as many digits as tell it from its neighbours."""
    if column.type == "number":
        return ["" if value != value else f"{value:.9g}" for value in column.values]
    return list(column.values)


def one_line(text: str) -> str:
    """Puts a space for what would break a line of a terminal."""
    return _CONTROL.sub(" ", text)


def number(value: Any) -> float | None:
    """Takes a number for JSON, which has no NaN and nothing infinite."""
    return float(value) if math.isfinite(value) else None
