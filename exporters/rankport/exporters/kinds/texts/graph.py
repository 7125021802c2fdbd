"""Graphs of modules that take padded texts: token ids, mask and, where the model has them, token types."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor, nn

from rankport.exporters.graphs.experts.traceable import traceable_experts
from rankport.exporters.graphs.passes.early_rows import select_first_early
from rankport.exporters.graphs.passes.fusions.for_cuda import fuse_for_cuda
from rankport.exporters.graphs.passes.half_precision import to_half_precision
from rankport.exporters.graphs.passes.loud_products import expand_loud_products
from rankport.exporters.graphs.recurrences import BY_OPERATOR, mixing_by
from rankport.exporters.graphs.trace import cut, drop_intermediate_shapes, trace
from rankport.exporters.kinds.texts.attention import fused_attention
from rankport.exporters.kinds.texts.layers.convolutions import convolutions_within_texts
from rankport.exporters.kinds.texts.padding import require_blind_to_padding
from rankport.exporters.quantization.kernels.select import graph_kernels
from rankport.runtime.bundle.manifest import Precision, Target

_EXAMPLES = {
    "input_ids": torch.ones(3, 7, dtype=torch.int64),
    "attention_mask": torch.tensor([[1] * 7, [1] * 5 + [0] * 2, [1] * 4 + [0] * 3]),
    "token_type_ids": torch.tensor([[0] * 3 + [1] * 4, [0] * 2 + [1] * 3 + [0] * 2, [0] * 7]),
}


@dataclass(frozen=True, slots=True)
class TextGraph:
    """A module whose forward takes `inputs` by name, each [items, item tokens] int64, and what it answers."""

    module: nn.Module
    model: nn.Module  # of transformers, inside the module
    output: str
    shape: Sequence[str | int]  # of the output, ["items", ...]
    inputs: Sequence[str] = ("input_ids", "attention_mask")


def export_text_graph(of: TextGraph, target: Target, precision: Precision = "fp32") -> ir.Model:
    """Makes the graph for a target.

    Raises CheckpointError for a model that cannot be traced, and for one whose answers depend on padding.
    """
    arguments: dict[str, Tensor | list[Tensor]] = {name: _EXAMPLES[name] for name in of.inputs}
    axes: dict[str, list[str | int]] = {name: ["items", "item_tokens"] for name in arguments}
    on_gpu = target == "onnx-cuda"
    fused = fused_attention(of.model) if on_gpu else nullcontext()
    mixing = mixing_by(of.model, BY_OPERATOR[target]) if target in BY_OPERATOR else nullcontext()
    with convolutions_within_texts(of.model):
        require_blind_to_padding(of.module, of.inputs, type(of.model).__name__)
    with (
        graph_kernels(of.model, target),
        traceable_experts(of.model, target),
        convolutions_within_texts(of.model),
        fused,
        mixing,
    ):
        traced = trace(of.module, arguments, axes, [of.output])
    graph = cut(traced, {of.output: of.shape})
    select_first_early(graph)
    expand_loud_products(graph)
    if on_gpu:
        fuse_for_cuda(graph)
    if precision != "fp32":
        to_half_precision(graph, precision, fused=on_gpu)
    drop_intermediate_shapes(graph)
    return graph
