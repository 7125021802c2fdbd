"""Bundles without their weights: a few MB that any machine completes to the very same bytes.

A recipe says of every tensor in a bundle's weight files of which parameters it is made: random ones, that follow from
their names, or those of a checkpoint in the repository. The manifest's hashes prove that a completed bundle is the
exported one.
"""

import base64
import json
import math
import multiprocessing
import os
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.workload.weights import STORED, CheckpointWeights, DType, RandomWeights, Weights
from rankport.runtime.bundle.manifest_json import MANIFEST_NAME

RECIPE_FILE = "weights.recipe.json"
BUNDLE_FOLDER = "bundle"
MAX_INLINE_BYTES = 16 * 2**20
"""All that may stand in a recipe as it is, uncompressed: small tables that an export computed."""


Heads = tuple[int, int, int]
"""KV heads, query heads of each, and the width of a head."""


@dataclass(frozen=True, slots=True)
class Part:
    """A parameter as it lies in a tensor."""

    parameter: str
    shape: tuple[int, ...]
    transposed: bool
    by_group: Heads | tuple[()] = ()  # where its query heads do not stand by KV head

    def values(self, weights: Weights, dtype: DType) -> NDArray[Any]:
        """The matrix in the form that a file has it in; of bfloat16 the bits."""
        stored = weights.stored(self.parameter, self.shape, dtype)
        if self.by_group:
            order = np.arange(math.prod(self.by_group)).reshape(self.by_group).swapaxes(0, 1).ravel()
            stored = stored[:, order] if self.parameter.endswith("o_proj.weight") else stored[order]
        return stored.T if self.transposed else stored


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor lies, and its parts side by side along `axis`, or else its bytes."""

    file: str
    offset: int
    dtype: DType | str
    shape: tuple[int, ...]
    axis: int = 0
    parts: tuple[Part, ...] = ()
    inline: str = ""  # base64 of zlib

    def bytes(self, weights: Weights) -> bytes:
        """What the file has at `offset`."""
        if not self.parts:
            return zlib.decompress(base64.b64decode(self.inline))
        assert self.dtype in STORED
        return np.concatenate([part.values(weights, self.dtype) for part in self.parts], self.axis).tobytes()


def write_skeleton(bundle: Path, weights: Weights, to: Path) -> Path:
    """Copies a bundle without its weight files, with the recipe of those beside it.

    Raises ValueError if too much of them is made of no parameter.
    """
    tensors = _recipe(bundle, weights)
    heavy = {tensor.file for tensor in tensors}
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(bundle, to / BUNDLE_FOLDER, ignore=lambda _, names: heavy & set(names))
    sizes = {name: (bundle / name).stat().st_size for name in sorted(heavy)}
    # Of a checkpoint the path, from the repository's root on.
    checkpoint = str(weights.folder) if isinstance(weights, CheckpointWeights) else None
    recipe = {
        "checkpoint": checkpoint,
        "files": sizes,
        "tensors": [asdict(tensor) for tensor in tensors],
    }
    (to / RECIPE_FILE).write_text(json.dumps(recipe, separators=(",", ":")))
    return to


def restore(skeleton: Path, to: Path, workers: int | None = None) -> Path:
    """Makes the whole bundle at `to`, over the cores. `Bundle.open` proves that it is the one that was exported."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(skeleton / BUNDLE_FOLDER, to)
    recipe = json.loads((skeleton / RECIPE_FILE).read_text())
    for name, size in recipe["files"].items():
        with (to / name).open("wb") as file:
            file.truncate(size)  # pages between tensors are zeros
    tensors = sorted(map(_tensor, recipe["tensors"]), key=lambda tensor: -math.prod(tensor.shape))
    checkpoint = recipe["checkpoint"]
    weights: Weights = RandomWeights({}) if checkpoint is None else CheckpointWeights(Path(checkpoint))
    processes = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers or os.cpu_count(), processes) as pool:
        list(pool.map(_write, [to] * len(tensors), [weights] * len(tensors), tensors))
    return to


def _tensor(fields: dict[str, Any]) -> Tensor:
    parts = tuple(
        Part(p["parameter"], tuple(p["shape"]), p["transposed"], tuple(p.get("by_group", ())))
        for p in fields["parts"]
    )
    return Tensor(**fields | {"shape": tuple(fields["shape"]), "parts": parts})


def _write(folder: Path, weights: Weights, tensor: Tensor) -> None:
    with (folder / tensor.file).open("r+b") as file:
        file.seek(tensor.offset)
        file.write(tensor.bytes(weights))


def _recipe(bundle: Path, weights: Weights) -> list[Tensor]:
    edges = Edges(weights, _query_heads(bundle, weights))
    found: dict[tuple[str, int], Tensor] = {}
    inline, unknown = 0, []
    for graph in sorted(bundle.rglob("*.onnx")):
        for name, file, offset, dtype, shape, data in _external(graph):
            if (file, offset) in found:
                continue
            axis, parts = edges.match(dtype, data)
            if parts:
                found[file, offset] = Tensor(file, offset, dtype, shape, axis, parts)
                continue
            inline += data.nbytes
            unknown.append(f"{name} {dtype}{list(shape)}")
            packed = base64.b64encode(zlib.compress(data.tobytes(), 9)).decode()
            found[file, offset] = Tensor(file, offset, dtype, shape, inline=packed)
    if inline > MAX_INLINE_BYTES:
        raise ValueError(f"{inline} bytes of {bundle} are no parameters: {', '.join(unknown[:20])}")
    return list(found.values())


def _query_heads(bundle: Path, weights: Weights) -> dict[str, Heads]:
    """Finds the heads of weights that an export for CUDA may have put in another order, by the parameter's name."""
    layers = json.loads((bundle / MANIFEST_NAME).read_text())["shape"]["layers"]
    heads: dict[str, Heads] = {}
    for name, shape in weights.shapes().items():
        matched = re.search(r"\.(\d+)\.self_attn\.(q|o)_proj\.weight$", name)
        if matched and int(matched[1]) < len(layers):
            layer = layers[int(matched[1])]
            group = shape["qo".index(matched[2])] // (layer["kv_heads"] * layer["head_dim"])
            if min(group, layer["kv_heads"]) > 1:
                heads[name] = (layer["kv_heads"], group, layer["head_dim"])
    return heads


def _external(graph: Path) -> Iterator[tuple[str, str, int, str, tuple[int, ...], NDArray[Any]]]:
    """Name, file, offset, dtype, shape and values of the tensors that a graph keeps outside."""
    import onnx_ir as ir

    for part in ir.load(graph).graphs():
        for value in part.initializers.values():
            tensor = value.const_value
            if not isinstance(tensor, ir.ExternalTensor):
                continue
            shape = tuple(map(int, tensor.shape.numpy()))
            file = str(tensor.location)
            dtype = {"FLOAT": "float32", "FLOAT16": "float16", "BFLOAT16": "bfloat16"}.get(tensor.dtype.name)
            kind = STORED[dtype] if dtype else np.dtype(np.uint8)  # type: ignore[index]
            count = math.prod(shape) if dtype else tensor.nbytes
            data = np.memmap(graph.parent / file, kind, "r", tensor.offset or 0, (count,))
            yield (
                str(value.name),
                file,
                tensor.offset or 0,
                dtype or tensor.dtype.name,
                shape,
                data.reshape(shape) if dtype else data,
            )


class Edges:
    """First rows and columns of all matrices: enough to tell apart those whose bytes are as good as random.

    Where several begin alike, with zeros, all their values are compared.
    """

    def __init__(self, weights: Weights, query_heads: Mapping[str, Heads] = MappingProxyType({})) -> None:
        """Takes the heads of matrices that may lie by group."""
        self._weights = weights
        self._found: dict[tuple[int, bytes], list[tuple[DType, Part]]] = {}
        for name, shape in weights.shapes().items():
            if len(shape) != 2:
                continue
            orders = ((), query_heads[name]) if name in query_heads else ((),)
            for dtype in get_args(DType):
                for part in (Part(name, shape, False, order) for order in orders):
                    values = part.values(weights, dtype)
                    row, column = values[0].tobytes(), np.ascontiguousarray(values[:, 0]).tobytes()
                    # Keyed by the size across, so that a short row is not taken for the start of a column.
                    for key, transposed in (((shape[0], row), False), ((-shape[1], column), True)):
                        self._found.setdefault(key, []).append((dtype, replace(part, transposed=transposed)))
        self._sizes = {abs(size) for size, _ in self._found}

    def match(self, dtype: str, data: NDArray[Any]) -> tuple[int, tuple[Part, ...]]:
        """Axis and parts, or no parts."""
        if dtype not in STORED or data.ndim != 2:
            return 0, ()
        for axis, matrix in enumerate((data, data.T)):
            parts = self._along_rows(matrix)
            if parts:
                return axis, tuple(replace(part, transposed=part.transposed != bool(axis)) for part in parts)
        return 0, ()

    def _along_rows(self, matrix: NDArray[Any]) -> list[Part]:
        """Parameters that stand one below the other in the matrix."""
        parts, start = [], 0
        while start < len(matrix):
            part = self._beginning(matrix[start:])
            if part is None:
                return []
            parts.append(part)
            start += part.shape[1] if part.transposed else part.shape[0]
        return parts if start == len(matrix) else []

    def _beginning(self, matrix: NDArray[Any]) -> Part | None:
        """The parameter whose rows, or columns, the matrix begins with."""
        row = np.ascontiguousarray(matrix[0]).tobytes()
        alike = [
            found
            for size in self._sizes
            for key in ((size, row), (-size, row))
            for found in self._found.get(key, ())
        ]
        if len(alike) == 1:
            return alike[0][1]
        return next((part for dtype, part in alike if self._is(dtype, part, matrix)), None)

    def _is(self, dtype: DType, part: Part, matrix: NDArray[Any]) -> bool:
        values = part.values(self._weights, dtype)
        return values.tobytes() == np.ascontiguousarray(matrix[: len(values)]).tobytes()
