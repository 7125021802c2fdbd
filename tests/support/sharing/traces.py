"""Traces kept: tracing is nearly all that an export of a tiny model takes.

A trace depends on the module, its arguments and their axes; not on limits, precision, tolerance, prompt or target
platform, nor on the test that asks. Each is made once a run.
"""

import functools
import io
import pkgutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch

from rankport.exporters.torch_memory import release
from support.sharing.content import content_hash
from support.sharing.once import made_once

_OPTIMIZE = "rankport.exporters.graphs.trace.optimize"
_RELEASES = (
    "rankport.exporters.graphs.trace.release",
    "rankport.exporters.proof.prove.release",
    "rankport.exporters.quantization.quantize.release",
)
_TABLE = "torch.onnx._internal.exporter._decomp.create_onnx_friendly_decomposition_table"
_REGISTRY = "torch.onnx._internal.exporter._registration.ONNXRegistry.from_torchlib"


@dataclass(frozen=True, slots=True)
class KeptProgram:
    """The part of a `torch.onnx.ONNXProgram` that exports read."""

    model: ir.Model


class KeptTraces:
    """Stands in for `torch.onnx.export`: equal modules and arguments are traced once for all workers of a run."""

    def __init__(
        self, folder: Path, export: Callable[..., Any], optimize: Callable[[ir.Model], None]
    ) -> None:
        self._folder, self._export, self._optimize, self._keeps = folder, export, optimize, True

    def __call__(self, module: torch.nn.Module, **options: Any) -> Any:
        if not self._keeps:
            return self._export(module, **options)

        def make(file: Path) -> None:
            model = self._export(module, **options).model
            self._optimize(model)
            ir.save(model, file)

        # Read back by the one who made it too: names of nodes that passes add then are the same for all.
        return KeptProgram(ir.load(made_once(self._folder / f"{content_hash(module, options)}.onnx", make)))

    def optimize(self, model: ir.Model) -> None:
        """Leaves what is kept as it is: optimized."""
        if not self._keeps:
            self._optimize(model)

    def release(self) -> None:
        """Leaves memory to the interpreter: models are tiny, and looking through all that a run imported takes long."""
        if not self._keeps:
            release()

    @contextmanager
    def anew(self) -> Iterator[None]:
        """While open, every trace is made and memory released, for tests of these themselves."""
        self._keeps = False
        try:
            yield
        finally:
            self._keeps = True


def import_tracer() -> None:
    """Imports all that an export uses: torch imports most of its tracer with the first trace."""
    import_module("rankport.exporters.export")
    ones = torch.ones(2)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(torch.nn.ReLU().eval(), (ones,), dynamo=True, verbose=False)


@contextmanager
def kept_traces(folder: Path) -> Iterator[KeptTraces]:
    """While open, traces are kept in `folder`, and torch's exporter reads its own sources once, not for each trace."""
    traces = KeptTraces(folder, torch.onnx.export, pkgutil.resolve_name(_OPTIMIZE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", traces)
        patch.setattr(_OPTIMIZE, traces.optimize)
        patch.setattr(_REGISTRY, staticmethod(functools.cache(pkgutil.resolve_name(_REGISTRY))))
        patch.setattr(_TABLE, _made_once(pkgutil.resolve_name(_TABLE)))
        for name in _RELEASES:
            patch.setattr(name, traces.release)
        yield traces


def _made_once(make: Callable[[set[Any]], dict[Any, Any]]) -> Callable[[set[Any]], dict[Any, Any]]:
    """Makes the table of decompositions once: it is the same for equal operators, and nobody changes it."""
    made = functools.cache(lambda operators: make(set(operators)))
    return lambda operators: made(frozenset(operators))
