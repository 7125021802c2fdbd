"""The `prefix` and `score` graphs of a ranker, both cut from one trace of `RankerModule`."""

import logging
from dataclasses import dataclass

import onnx_ir as ir
import torch

from rankport.exporters.early_rows import select_rows_early
from rankport.exporters.onnx_export import cut, drop_intermediate_shapes, trace
from rankport.exporters.quantization.kernels.select import graph_kernels
from rankport.exporters.ranker_module import RankerModule, shared_prefix_mode
from rankport.exporters.survey import Survey
from rankport.runtime.manifest import LayerKV

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RankerGraphs:
    """Two ONNX graphs whose equal weights are the same tensors."""

    prefix: ir.Model
    score: ir.Model


def export_ranker_graphs(module: RankerModule, facts: Survey) -> RankerGraphs:
    """Traces the model once and cuts: `prefix` computes KV and nothing else, `score` logits and no KV."""
    hidden = module.embed_tokens.embedding_dim
    axes = graph_axes(facts.layers, hidden if module.takes_embeddings else None)
    arguments = _example(facts.layers, hidden if module.takes_embeddings else None)
    kv_names = [f"new_{part}.{layer}" for layer in range(len(facts.layers)) for part in ("key", "value")]
    with shared_prefix_mode(module), graph_kernels(module.model):
        whole = trace(module, arguments, axes, ["logits", *kv_names])
    labels = len(module.head.weight)  # type: ignore[arg-type]
    score = cut(whole, {"logits": ["items_total", labels]})
    if not select_rows_early(score, rows="last_tokens"):
        _log.warning("the last block of %s computes its MLP for all tokens", type(module.model).__name__)
    kv_shapes: dict[str, list[str | int]] = {
        f"new_{part}.{layer}": ["prefixes", width.kv_heads, "slots_per_prefix", width.head_dim]
        for layer, width in enumerate(facts.layers)
        for part in ("key", "value")
    }
    prefix = cut(whole, kv_shapes)
    for graph in (prefix, score):
        drop_intermediate_shapes(graph)
    return RankerGraphs(prefix=prefix, score=score)


def graph_axes(layers: tuple[LayerKV, ...], hidden: int | None) -> dict[str, list[str | int]]:
    """Shape of every graph input, in order; `hidden` is None for a ranker of text items only."""
    axes: dict[str, list[str | int]] = {
        "input_ids": ["tokens"],
        "position_ids": ["tokens"],
        "slots": ["prefixes", "items", "item_tokens"],
        "token_slots": ["tokens"],
        "past_lengths": ["prefixes"],
        "last_tokens": ["items_total"],
    }
    for layer, width in enumerate(layers):
        for part in ("key", "value"):
            axes[f"past_{part}.{layer}"] = ["prefixes", width.kv_heads, "past", width.head_dim]
    if hidden is not None:
        axes["embeddings"] = ["embedding_count", hidden]
        axes["embedding_rows"] = ["tokens"]
    return axes


def _example(layers: tuple[LayerKV, ...], hidden: int | None) -> dict[str, torch.Tensor | list[torch.Tensor]]:
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
    return arguments
