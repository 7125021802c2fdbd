"""The way from a torch module to clean ONNX: tracing with dynamic axes, and cutting graphs out of one trace.

Owns the call of the torch exporter. Names of inputs, outputs and axes are the ones the bundle's manifest lists.
"""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from textwrap import shorten

import onnx_ir as ir
import onnx_ir.passes.common as passes
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rankport.exporters.graphs.complex_pairs import complex_as_pairs
from rankport.exporters.graphs.decompose import decomposed_in_place
from rankport.exporters.graphs.imported import inline_imported
from rankport.exporters.graphs.masks import masks_by_index
from rankport.exporters.graphs.optimize import optimize
from rankport.exporters.graphs.ordered_sets import sets_in_order
from rankport.exporters.graphs.passes.divide_by_root import divide_by_root
from rankport.exporters.graphs.passes.expert_layout import store_experts
from rankport.exporters.graphs.passes.first_sizes import read_first_sizes
from rankport.exporters.graphs.passes.low_bit_types import store_int4
from rankport.exporters.graphs.promotion import promoted_from_notes
from rankport.exporters.graphs.raised_in import raising_module
from rankport.exporters.temporary_attributes import temporary_attributes
from rankport.exporters.torch_memory import release
from rankport.protos.errors import CheckpointError

OPSET = 21


def trace(
    module: nn.Module,
    arguments: Mapping[str, Tensor | list[Tensor]],
    axes: Mapping[str, Sequence[str | int]],
    outputs: Sequence[str],
) -> ir.Model:
    """Traces the module as one ONNX graph.

    `axes` gives each graph input's shape in order (a list argument is one input per element); a string is a dynamic
    axis. The tracer's metadata is dropped: it would put this machine's source paths into a release.
    """
    dynamic, names = _dynamic_shapes(arguments, axes)
    try:
        with (
            torch.no_grad(),
            _quiet(),
            _lean(),
            masks_by_index(),
            complex_as_pairs(),
            decomposed_in_place(),
            promoted_from_notes(),
            sets_in_order(module),
        ):
            program = torch.onnx.export(
                module,
                kwargs=dict(arguments),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=dynamic,
                input_names=names,
                output_names=list(outputs),
                optimize=False,  # `optimize` does so, faster
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        lines = str(error.__cause__ or error).strip().splitlines()
        more = 3 if lines[0].endswith(":") else 1  # the heading of a list says nothing by itself
        reason = shorten(" ".join(lines[:more]), 300)  # may quote a whole graph
        raise CheckpointError(
            f"{_named(module, error)} cannot be traced with dynamic sizes, as code that branches on its input, or "
            "takes tokens one after another or in chunks, cannot: use another model, or serve this one by its own "
            f"library ({reason})"
        ) from error
    assert program is not None
    model = program.model
    # The tracer's graphs are cycles that hold the weights.
    del program
    release()
    optimize(model)
    inline_imported(model, module, OPSET)
    passes.LiftConstantsToInitializersPass(lift_all_constants=False)(model)
    passes.ClearMetadataAndDocStringPass()(model)
    divide_by_root(model)
    store_int4(model)
    store_experts(model)
    for value in model.graph.inputs:
        assert value.name is not None
        value.shape = ir.Shape(list(axes[value.name]))
    read_first_sizes(model)
    return model


def _named(module: nn.Module, error: BaseException) -> str:
    """Names the model of transformers in a module, and the part of it that did not trace."""
    model = next((part for part in module.modules() if isinstance(part, PreTrainedModel)), module)
    part = raising_module(error.__cause__ or error)
    inside = "" if part in (None, model) else f"{type(part).__name__} of "
    return f"{inside}{type(model).__name__}"


def cut(model: ir.Model, outputs: Mapping[str, Sequence[str | int]]) -> ir.Model:
    """Copies the graph to one that computes only `outputs` (name -> shape): all else falls away as dead code."""
    part = model.clone()
    by_name = {value.name: value for value in part.graph.outputs}
    part.graph.outputs.clear()
    for name, shape in outputs.items():
        value = by_name[name]
        value.shape = ir.Shape(list(shape))
        part.graph.outputs.append(value)
    passes.CommonSubexpressionEliminationPass()(part)
    passes.RemoveUnusedNodesPass()(part)
    passes.IdentityEliminationPass()(part)
    unused = [value for value in part.graph.inputs if not value.uses()]
    for value in unused:
        part.graph.inputs.remove(value)
    passes.TopologicalSortPass()(part)
    return part


def _dynamic_shapes(
    arguments: Mapping[str, Tensor | list[Tensor]], axes: Mapping[str, Sequence[str | int]]
) -> tuple[dict[str, object], list[str]]:
    shapes: dict[str, object] = {}
    names: list[str] = []
    remaining = list(axes.items())

    def next_shape() -> dict[int, object]:
        name, shape = remaining.pop(0)
        names.append(name)
        return {i: torch.export.Dim.DYNAMIC for i, size in enumerate(shape) if isinstance(size, str)}

    for argument, value in arguments.items():
        shapes[argument] = [next_shape() for _ in value] if isinstance(value, list) else next_shape()
    assert not remaining, remaining
    return shapes, names


def drop_intermediate_shapes(model: ir.Model) -> None:
    """Leaves the inference of inner shapes to the runtimes: the tracer's symbols mean nothing outside."""
    graph = model.graph
    kept = {id(value) for value in (*graph.inputs, *graph.outputs)}
    for node in graph:
        for value in node.outputs:
            if id(value) not in kept:
                value.shape = None


@contextmanager
def _lean() -> Iterator[None]:
    """Has torch work out each operator's sizes anew: with dynamic sizes, looking them up takes it longer.

    Nor does it note which lines of the model an operator comes from, which nothing reads.
    """
    unnoted = temporary_attributes(torch.fx.config, {"do_not_emit_stack_traces": True})
    with unnoted, torch._dynamo.config.patch(fake_tensor_cache_enabled=False):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps torch's notices, progress lines and graphs of what it cannot trace out of ours: an error says it all."""
    torch_log, exporter = logging.getLogger("torch"), logging.getLogger("torch.onnx")
    levels = torch_log.level, exporter.level
    torch_log.setLevel(logging.CRITICAL)
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch_log.setLevel(levels[0])
        exporter.setLevel(levels[1])
