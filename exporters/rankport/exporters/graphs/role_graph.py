"""A graph of a bundle in the making, and the roles that it serves."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from rankport.runtime.bundle.manifest import Role


@dataclass(frozen=True, slots=True)
class RoleGraph:
    """An ONNX graph and what each of its roles reads of it. Graphs of one export share their equal weights."""

    model: ir.Model
    outputs: Mapping[Role, tuple[str, ...]]
    onnxruntime: str | None = None  # first version that has its operators, of a second form of a role
