"""The graphs of a ranker, cut from one trace of `RankerModule`: two, or one that serves both roles.

Two graphs compute nothing that their role does not need. One graph needs one copy of weights that a runtime has packed
for its kernels, which a runtime does a graph: what a low-bit model saves is not spent on a second copy. It costs the
last block's attention in a prefill.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from rankport.exporters.graphs.passes.early_rows import select_rows_early
from rankport.exporters.graphs.passes.fusions.for_cuda import fuse_for_cuda
from rankport.exporters.graphs.passes.half_precision import to_half_precision
from rankport.exporters.graphs.trace import cut, drop_intermediate_shapes, trace
from rankport.exporters.kinds.ranker.module import RankerModule, shared_prefix_mode
from rankport.exporters.kinds.ranker.survey import Survey
from rankport.exporters.quantization.kernels.select import graph_kernels
from rankport.runtime.bundle.manifest import LayerKV, Precision, Role, Target

_log = logging.getLogger(__name__)

Shape = list[str | int]


@dataclass(frozen=True, slots=True)
class RoleGraph:
    """An ONNX graph and what each of its roles reads of it. Graphs of one export share their equal weights."""

    model: ir.Model
    outputs: Mapping[Role, tuple[str, ...]]


def export_ranker_graphs(
    module: RankerModule,
    facts: Survey,
    *,
    joint: bool,
    target: Target,
    precision: Precision = "fp32",
    fused_attention: bool = False,
) -> dict[str, RoleGraph]:
    """Traces the model once and cuts. Graphs by name: `prefix` of KV alone and `score` of logits alone, or `ranker`.

    The joint graph has the input kv_slots [1] int64: how many slots of new KV it gives a prefix; 0 in a score pass.
    """
    hidden = module.embed_tokens.embedding_dim
    on_gpu = target == "onnx-cuda"
    axes = graph_axes(facts.layers, hidden if module.takes_embeddings else None, masks=on_gpu)
    arguments = _example(facts.layers, hidden if module.takes_embeddings else None, masks=on_gpu)
    kv_names = [f"new_{part}.{layer}" for layer in range(len(facts.layers)) for part in ("key", "value")]
    module.fused_attention = fused_attention
    with shared_prefix_mode(module), graph_kernels(module.model, target):
        whole = trace(module, arguments, axes, ["logits", *kv_names])
    logits: dict[str, Shape] = {"logits": ["items_total", int(module.head.out_features)]}  # type: ignore[arg-type]
    kv: dict[str, Shape] = {
        f"new_{part}.{layer}": ["prefixes", width.kv_heads, "slots_per_prefix", width.head_dim]
        for layer, width in enumerate(facts.layers)
        for part in ("key", "value")
    }
    if joint:
        ranker = _scoring(cut(whole, logits | kv), module)
        _limit_kv(ranker, tuple(kv))
        roles: dict[Role, tuple[str, ...]] = {"prefix": tuple(kv), "score": ("logits",)}
        graphs = {"ranker": RoleGraph(ranker, roles)}
    else:
        graphs = {
            "prefix": RoleGraph(cut(whole, kv), {"prefix": tuple(kv)}),
            "score": RoleGraph(_scoring(cut(whole, logits), module), {"score": ("logits",)}),
        }
    for graph in graphs.values():
        if on_gpu:
            fuse_for_cuda(graph.model)
        if precision != "fp32":
            to_half_precision(graph.model, precision, fused=on_gpu)
        drop_intermediate_shapes(graph.model)
    return graphs


def _scoring(graph: ir.Model, module: RankerModule) -> ir.Model:
    if not select_rows_early(graph, rows="last_tokens"):
        _log.warning("the last block of %s computes its MLP for all tokens", type(module.model).__name__)
    return graph


def _limit_kv(model: ir.Model, names: tuple[str, ...]) -> None:
    """Slices the KV outputs to their first kv_slots slots, so that a score pass keeps and returns none."""
    graph = model.graph
    slots = ir.Value(name="kv_slots", shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.INT64))
    graph.inputs.append(slots)
    bounds = {name: np.array([value], np.int64) for name, value in (("kv_from", 0), ("kv_axis", 2))}
    start, axis = (_initializer(graph, name, value) for name, value in bounds.items())
    for place, whole in enumerate(graph.outputs):
        name = whole.name
        if name not in names:
            continue
        whole.name = f"{name}.all"
        node = ir.node("Slice", [whole, start, slots, axis])
        given = node.outputs[0]
        given.name, given.shape, given.type = name, whole.shape, whole.type
        graph.append(node)
        graph.outputs[place] = given


def _initializer(graph: ir.Graph, name: str, value: NDArray[np.int64]) -> ir.Value:
    made = ir.Value(name=name, shape=ir.Shape(value.shape), type=ir.TensorType(ir.DataType.INT64))
    made.const_value = ir.tensor(value, name=name)
    graph.initializers[name] = made
    return made


def graph_axes(
    layers: tuple[LayerKV, ...], hidden: int | None, *, masks: bool = False
) -> dict[str, list[str | int]]:
    """Shape of every graph input, in order; `hidden` is None for a ranker of text items only."""
    tokens: list[str | int] = ["prefixes", "rows", "row_tokens"] if masks else ["tokens"]
    axes: dict[str, list[str | int]] = {"input_ids": tokens, "position_ids": tokens}
    if not masks:
        axes |= {
            "slots": ["prefixes", "items", "item_tokens"],
            "token_slots": tokens,
            "past_lengths": ["prefixes"],
        }
    axes["last_tokens"] = ["items_total"]
    for layer, width in enumerate(layers):
        for part in ("key", "value"):
            axes[f"past_{part}.{layer}"] = ["prefixes", width.kv_heads, "past", width.head_dim]
    if hidden is not None:
        axes["embeddings"] = ["embedding_count", hidden]
        axes["embedding_rows"] = tokens
    if masks:
        axes["past_mask"] = ["prefixes", "past"]
        axes["own_mask"] = ["row_tokens", "row_tokens"]
    return axes


def _example(
    layers: tuple[LayerKV, ...], hidden: int | None, *, masks: bool
) -> dict[str, torch.Tensor | list[torch.Tensor]]:
    """Two prefixes of 5 and 4 tokens, 2 and 3 items of up to 4 tokens: no two axes share a size by accident."""
    lengths, owners, pasts = [3, 4, 3, 3, 2], [0, 0, 1, 1, 1], [5, 4]
    slots = torch.zeros(2, 3, 4, dtype=torch.int64)
    token_slots, positions, last, start = [], [], [], 0
    rank = [0, 1, 0, 1, 2]
    for length, owner, item in zip(lengths, owners, rank, strict=True):
        slots[owner, item, :length] = torch.arange(start, start + length)
        token_slots += [(owner * 3 + item) * 4 + t for t in range(length)]
        positions += [pasts[owner] + t for t in range(length)]
        start += length
        last.append(start - 1)
    arguments: dict[str, torch.Tensor | list[torch.Tensor]] = {
        "input_ids": torch.ones(start, dtype=torch.int64),
        "position_ids": torch.tensor(positions),
        "slots": slots,
        "token_slots": torch.tensor(token_slots),
        "past_lengths": torch.tensor(pasts),
        "last_tokens": torch.tensor(last),
        "past": [torch.zeros(2, w.kv_heads, 6, w.head_dim) for w in layers for _ in ("key", "value")],
    }
    if hidden is not None:
        arguments["embeddings"] = torch.zeros(7, hidden)
        arguments["embedding_rows"] = torch.full((start,), -1)
    if masks:
        for name in ("slots", "token_slots", "past_lengths"):
            del arguments[name]
        rectangle = torch.ones(2, 3, 4, dtype=torch.int64)
        # Each a tensor of its own: the tracer takes one given twice for one input.
        arguments |= {"input_ids": rectangle, "position_ids": rectangle.clone()}
        if hidden is not None:
            arguments["embedding_rows"] = -rectangle
        arguments |= {"past_mask": torch.zeros(2, 6), "own_mask": torch.zeros(4, 4)}
    return arguments
