"""What a part of the run has measured so far: said at once, and on disk at once, so that nothing is lost at a stop."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Value = Any
"""What JSON can say."""


class Figures:
    """Named figures of one part; the file has all of them after each `add`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, Value] = {}
        self._begun = time.monotonic()

    def add(self, name: str, value: Value) -> None:
        """Prints and stores one figure, or a dict of them."""
        self._values[name] = value
        print(f"[{time.monotonic() - self._begun:6.1f} s] {name}: {_text(value)}", flush=True)
        write_json(self._path, self._values)


def quantiles_ms(seconds: Sequence[float]) -> dict[str, Value]:
    """Median and 99th percentile in milliseconds. Of less than a hundred calls the latter is about the longest."""
    p50, p99 = np.quantile(seconds, (0.5, 0.99)) if len(seconds) else (float("nan"),) * 2
    return {"p50_ms": float(p50) * 1e3, "p99_ms": float(p99) * 1e3}


def write_json(path: Path, value: object) -> None:
    """Whole or not at all: a reader never sees half of it."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(beside, path)


def _text(value: Value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
