"""Writes a bundle's graphs over one weights file.

Owns the layout of `weights.bin`: every distinct tensor once, however many graphs or names use it, each at a page
boundary so that a runtime can map it instead of copying it. Small constants stay inside the graphs.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

PAGE_BYTES = 4096
INLINE_BYTES = 1024
"""Tensors up to this size stay in the graph: runtimes fold them, and a page each would waste the file."""


def write_graphs(directory: Path, graphs: Mapping[str, ir.Model], weights: str) -> None:
    """Writes `<name>.onnx` for each graph and the file `weights` beside them. The graphs refer to it afterwards."""
    unique: dict[str, ir.TensorProtocol] = {}
    users: list[tuple[ir.Value, str]] = []
    for model in graphs.values():
        for value in model.graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and tensor.nbytes > INLINE_BYTES:
                digest = _digest(tensor)
                unique.setdefault(digest, tensor)
                users.append((value, digest))
    external = ir.external_data.convert_tensors_to_external(
        list(unique.values()), directory, weights, alignment=PAGE_BYTES, align_threshold=0
    )
    by_digest = dict(zip(unique, external, strict=True))
    for value, digest in users:
        value.const_value = by_digest[digest]
    for name, model in graphs.items():
        model.producer_name, model.producer_version = "rankport", ""
        ir.save(model, directory / f"{name}.onnx")


def _digest(tensor: ir.TensorProtocol) -> str:
    data = tensor.numpy()
    header = f"{tensor.dtype}{tuple(data.shape)}".encode()
    return hashlib.sha256(header + data.tobytes()).hexdigest()
