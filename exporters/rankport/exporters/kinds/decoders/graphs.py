"""The graphs of a decoder, cut from one trace of its `DecoderModule`: two, or one that serves both roles.

Two graphs compute nothing that their role does not need. One graph needs one copy of weights that a runtime has packed
for its kernels, which a runtime does a graph: what a low-bit model saves is not spent on a second copy. It costs the
last block's attention in a prefill. A graph that decodes gives the logits and the KV of the same tokens.
"""

import logging
from typing import Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from rankport.exporters.graphs.experts.traceable import traceable_experts
from rankport.exporters.graphs.passes.early_rows import select_rows_early
from rankport.exporters.graphs.passes.fusions.for_cuda import fuse_for_cuda
from rankport.exporters.graphs.passes.fusions.for_writing import fuse_for_writing
from rankport.exporters.graphs.passes.half_precision import to_half_precision
from rankport.exporters.graphs.passes.step_attention import expand_attention
from rankport.exporters.graphs.passes.step_recurrence import expand_recurrences
from rankport.exporters.graphs.passes.told_logits import OUTPUTS as TOLD_OF_LOGITS
from rankport.exporters.graphs.passes.told_logits import tell_of_logits
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.graphs.trace import cut, drop_intermediate_shapes, trace
from rankport.exporters.kinds.decoders.graph_inputs import GroupedInputs, PackedInputs, RowInputs
from rankport.exporters.kinds.decoders.grouped_attention import LEAST_VERSION, require_grouped
from rankport.exporters.kinds.decoders.module import (
    DecoderModule,
    GroupedDecoder,
    PackedDecoder,
    RowDecoder,
    shared_prefix_mode,
)
from rankport.exporters.kinds.decoders.survey import Survey
from rankport.exporters.quantization.kernels.select import graph_kernels
from rankport.runtime.bundle.manifest import Precision, Target

_log = logging.getLogger(__name__)

GraphForm = Literal["separate", "joint", "decode"]
"""Graphs of the roles `prefix` and `score`, one graph of both, or one of the roles `prefix` and `decode`."""

Shapes = dict[str, list[str | int]]  # of outputs by name


def export_decoder_graphs(
    module: PackedDecoder | RowDecoder,
    facts: Survey,
    *,
    form: GraphForm,
    target: Target,
    precision: Precision = "fp32",
) -> dict[str, RoleGraph]:
    """Traces the model once and cuts. Graphs by name: `prefix` and `score`, `ranker`, or `decode`: see `GraphForm`.

    The joint graph has the input kv_slots [1] int64: how many slots of new KV it gives a prefix; 0 in a score pass.
    """
    hidden = module.embed_tokens.embedding_dim if module.takes_embeddings else None
    hybrid = facts.hybrid
    module.carried = () if hybrid is None else hybrid.carried
    carried = () if hybrid is None else tuple(zip(hybrid.carried, hybrid.shapes, strict=True))
    inputs = (RowInputs if isinstance(module, RowDecoder) else PackedInputs)(
        facts.layers, hidden, facts.states, carried
    )
    kv: Shapes = {
        f"new_{part}.{layer}": ["prefixes", width.kv_heads, "slots_per_prefix", width.head_dim]
        for layer, width in enumerate(facts.layers)
        for part in ("key", "value")
    }
    if facts.states is not None:
        kv["new_states"] = ["prefixes", 1, "slots_per_prefix", facts.states]
    kv |= {f"new_{name}": ["prefixes", *shape] for name, shape in carried}
    logits: Shapes = {"logits": ["items_total", module.outputs]}
    with (
        shared_prefix_mode(module),
        graph_kernels(module.model, target),
        traceable_experts(module.model, target),
    ):
        traced = trace(module, inputs.example(), inputs.axes(), [*logits, *kv])
    graphs = _CUTS[form](traced, logits, kv, module)
    on_gpu = target == "onnx-cuda"
    for graph in graphs.values():
        if on_gpu:
            fuse_for_cuda(graph.model)
        if precision != "fp32":
            to_half_precision(graph.model, precision, fused=on_gpu)
        drop_intermediate_shapes(graph.model)
    return graphs


def export_grouped_score(module: GroupedDecoder, facts: Survey, *, precision: Precision) -> RoleGraph:
    """Traces the second form of the role `score` for CUDA: see `grouped_attention`.

    Raises CheckpointError for a model that the operator does not compute, or an ONNX Runtime that has it not.
    """
    require_grouped(facts.layers)
    inputs = GroupedInputs(facts.layers, None, facts.states)
    logits: Shapes = {"logits": ["items_total", module.outputs]}
    with (
        shared_prefix_mode(module),
        graph_kernels(module.model, "onnx-cuda"),
        traceable_experts(module.model, "onnx-cuda"),
    ):
        traced = trace(module, inputs.example(), inputs.axes(), list(logits))
    graph = _scoring(cut(traced, logits), module)
    fuse_for_cuda(graph)
    to_half_precision(graph, precision, fused=True)
    drop_intermediate_shapes(graph)
    return RoleGraph(graph, {"score": ("logits",)}, onnxruntime=LEAST_VERSION)


def _joint(traced: ir.Model, logits: Shapes, kv: Shapes, module: DecoderModule) -> dict[str, RoleGraph]:
    ranker = _scoring(cut(traced, logits | kv), module)
    _limit_kv(ranker, tuple(name for name, shape in kv.items() if "slots_per_prefix" in shape))
    return {"ranker": RoleGraph(ranker, {"prefix": tuple(kv), "score": ("logits",)})}


def _separate(traced: ir.Model, logits: Shapes, kv: Shapes, module: DecoderModule) -> dict[str, RoleGraph]:
    return {
        "prefix": RoleGraph(cut(traced, kv), {"prefix": tuple(kv)}),
        "score": RoleGraph(_scoring(cut(traced, logits), module), {"score": ("logits",)}),
    }


def _decoding(traced: ir.Model, logits: Shapes, kv: Shapes, module: DecoderModule) -> dict[str, RoleGraph]:
    graph = _scoring(cut(traced, logits | kv), module)
    if not isinstance(module, RowDecoder):
        fuse_for_writing(graph)
        expand_recurrences(graph, expand_attention(graph))
        return {"decode": RoleGraph(graph, {"prefix": tuple(kv), "decode": ("logits", *kv)})}
    tell_of_logits(graph)
    return {"decode": RoleGraph(graph, {"prefix": tuple(kv), "decode": ("logits", *kv, *TOLD_OF_LOGITS)})}


_CUTS = {"separate": _separate, "joint": _joint, "decode": _decoding}


def _scoring(graph: ir.Model, module: DecoderModule) -> ir.Model:
    if module.pooling == "last-k" and not select_rows_early(graph, rows="last_tokens"):
        _log.warning("the last block of %s computes its MLP for all tokens", type(module.model).__name__)
    return graph


def _limit_kv(model: ir.Model, names: tuple[str, ...]) -> None:
    """Slices the KV outputs to their first kv_slots slots, so that a score pass keeps and returns none."""
    graph = model.graph
    slots = ir.Value(name="kv_slots", shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.INT64))
    graph.inputs.append(slots)
    bounds = {name: np.array([value], np.int64) for name, value in (("kv_from", 0), ("kv_axis", 2))}
    start, axis = (_initializer(graph, name, value) for name, value in bounds.items())
    for place, output in enumerate(graph.outputs):
        name = output.name
        if name not in names:
            continue
        output.name = f"{name}.all"
        node = ir.node("Slice", [output, start, slots, axis])
        sliced = node.outputs[0]
        sliced.name, sliced.shape, sliced.type = name, output.shape, output.type
        graph.append(node)
        graph.outputs[place] = sliced


def _initializer(graph: ir.Graph, name: str, value: NDArray[np.int64]) -> ir.Value:
    initializer = ir.Value(name=name, shape=ir.Shape(value.shape), type=ir.TensorType(ir.DataType.INT64))
    initializer.const_value = ir.tensor(value, name=name)
    graph.initializers[name] = initializer
    return initializer
