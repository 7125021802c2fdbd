"""A bundle as the machine of a proof can run it.

A CPU has no half precision, and no product of fp8 by fp8: there such a bundle is proven by a twin of its graphs, in
fp32 with every result rounded as the graph rounds it (`half_precision.emulate`, `fp8_products.emulate_fp8_products`),
over the same weights.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from rankport.exporters.graphs.passes.fp8_products import emulate_fp8_products
from rankport.exporters.graphs.passes.fusions.grouped import separate_norms
from rankport.exporters.graphs.passes.half_precision import emulate
from rankport.exporters.graphs.staging_folder import scratch_folder
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.fingerprint import with_own_fingerprint
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.config import DEFAULTS, Device, EngineConfig

ON_CPU = "onnxruntime-cpu"
EMULATED = "onnxruntime-cpu, {} emulated"
ON_GPU: dict[Device, str] = {"cuda": "onnxruntime-cuda", "tensorrt": "tensorrt"}


@dataclass(frozen=True, slots=True)
class Runnable:
    """A bundle, how to load it, and what its measurements are called."""

    bundle: Bundle
    backend: str
    config: EngineConfig = field(default_factory=EngineConfig)


@contextmanager
def runnable(bundle: Bundle, config: EngineConfig = DEFAULTS) -> Iterator[Runnable]:
    """Gives the bundle itself where the device runs it, else its twin, which is gone after the block."""
    if config.device != "cpu":
        yield Runnable(bundle, ON_GPU[config.device], config)
    elif bundle.manifest.on_cpu:
        yield Runnable(bundle, ON_CPU)
    else:
        with scratch_folder(bundle.path) as folder:
            yield Runnable(_twin(bundle, folder), EMULATED.format(" and ".join(_emulated(bundle.manifest))))


def _emulated(manifest: Manifest) -> list[str]:
    half = [] if manifest.precision == "fp32" else ["half precision"]
    return half + (["fp8 products"] if any(graph.fp8_products for graph in manifest.graphs) else [])


def _twin(bundle: Bundle, folder: Path) -> Bundle:
    manifest = bundle.manifest
    graphs = {graph.file for graph in manifest.graphs}
    for entry in manifest.files:
        to = folder / entry.path
        to.parent.mkdir(parents=True, exist_ok=True)
        if entry.path not in graphs:
            _link(bundle.path / entry.path, to)
    for file in graphs:
        model = ir.load(bundle.path / file)
        separate_norms(model)
        emulate_fp8_products(model)
        if manifest.precision != "fp32":
            emulate(model, manifest.precision)
        ir.save(model, folder / file)
    return Bundle(folder, _in_fp32(manifest))


def _in_fp32(manifest: Manifest) -> Manifest:
    none = {"precision": None, "fp8_products": False}
    graphs = [graph.model_copy(update=none) for graph in manifest.graphs]
    return with_own_fingerprint(manifest.model_copy(update={"precision": "fp32", "graphs": graphs}))


def _link(file: Path, to: Path) -> None:
    try:
        os.link(file, to)
    except OSError:
        shutil.copyfile(file, to)
