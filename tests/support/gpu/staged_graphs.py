"""Graphs of an export before its proof, which takes most of the time of one."""

from pathlib import Path
from typing import Any

import onnx_ir as ir

from rankport.exporters.graphs.bundle_writer import BundleStaging
from rankport.exporters.kinds.table import kind_named, options_of
from rankport.exporters.steps.stage import stage


def staged_graphs(checkpoint: Path, scratch: Path, kind: str, **options: Any) -> dict[str, ir.Model]:
    """Gives the graphs that an export of the checkpoint writes, by file. Leaves nothing in `scratch`."""
    row = kind_named(kind)
    with BundleStaging(scratch / "staged") as staging:
        stage(staging, row, checkpoint, options_of(row, options), [], lambda step: None)
        return {file.name: ir.load(file) for file in sorted(staging.path.glob("*.onnx"))}
