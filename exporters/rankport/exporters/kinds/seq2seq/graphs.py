"""The graphs of an encoder-decoder that writes, over one weights file: `encode` and `decode`."""

import torch
from torch import Tensor

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.graphs.trace import cut, drop_intermediate_shapes, trace
from rankport.exporters.kinds.seq2seq.families import Seq2SeqFamily, family_of
from rankport.exporters.kinds.seq2seq.module import SourceModule, StepModule
from rankport.exporters.quantization.kernels.select import graph_kernels
from rankport.runtime.bundle.manifest import Precision, Target

_TEXTS, _BEAMS, _SOURCE, _PAST = 3, 2, 7, 5  # of the traces
Shapes = dict[str, list[str | int]]


def seq2seq_graphs(source: Checkpoint, target: Target, precision: Precision) -> dict[str, RoleGraph]:
    """Traces both graphs."""
    family = family_of(source.model)
    with graph_kernels(source.model, target):
        graphs = {"encode": _encode(family), "decode": _decode(family)}
    for graph in graphs.values():
        drop_intermediate_shapes(graph.model)
    return graphs


def _encode(family: Seq2SeqFamily) -> RoleGraph:
    tokens: list[str | int] = ["texts", "source_tokens"]
    mask = torch.tensor([[1] * _SOURCE, [1] * 5 + [0] * 2, [1] * 4 + [0] * 3])
    arguments: dict[str, Tensor | list[Tensor]] = {
        "input_ids": torch.ones(_TEXTS, _SOURCE, dtype=torch.int64),
        "attention_mask": mask,
    }
    outputs = _source_shapes(family)
    traced = trace(
        SourceModule(family), arguments, {"input_ids": tokens, "attention_mask": tokens}, list(outputs)
    )
    return RoleGraph(cut(traced, outputs), {"encode": tuple(outputs)})


def _decode(family: Seq2SeqFamily) -> RoleGraph:
    heads, dim = family.heads, family.head_dim
    past: Shapes = {
        f"past_{part}.{layer}": ["texts", "beams", heads, "past_tokens", dim]
        for layer in range(family.layers)
        for part in ("key", "value")
    }
    arguments: dict[str, Tensor | list[Tensor]] = {
        "input_ids": torch.ones(_TEXTS, _BEAMS, dtype=torch.int64),
        "past_lengths": torch.tensor([5, 4, 2]),
        "source_lengths": torch.tensor([7, 5, 4]),
        "past": [torch.zeros(_TEXTS, _BEAMS, heads, _PAST, dim) for _ in past],
        "source": [torch.zeros(_TEXTS, heads, _SOURCE, dim) for _ in past],
    }
    source = _source_shapes(family)
    axes: Shapes = {
        "input_ids": ["texts", "beams"],
        "past_lengths": ["texts"],
        "source_lengths": ["texts"],
        **past,
        **source,
    }
    logits: Shapes = {"logits": ["texts", "beams", _vocabulary(family)]}
    new: Shapes = {
        f"new_{part}.{layer}": ["texts", "beams", heads, dim]
        for layer in range(family.layers)
        for part in ("key", "value")
    }
    outputs = logits | new
    traced = trace(StepModule(family), arguments, axes, list(outputs))
    return RoleGraph(cut(traced, outputs), {"decode": tuple(outputs)})


def _source_shapes(family: Seq2SeqFamily) -> Shapes:
    return {
        f"source_{part}.{layer}": ["texts", family.heads, "source_tokens", family.head_dim]
        for layer in range(family.layers)
        for part in ("key", "value")
    }


def _vocabulary(family: Seq2SeqFamily) -> int:
    return int(family.model.get_input_embeddings().num_embeddings)  # type: ignore[operator]
