"""The graph of a list ranker: prompts with markers, embedding tokens among them, to what is read at each marker.

For CUDA the places of tokens are an input, of which masks of sliding windows are made: what is counted from shapes
would be made on the host, tokens times tokens of it, and copied to the device in each pass.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import causal_mask_function

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.list_ranker.module import ListRankerModel
from rankport.exporters.graphs.experts.traceable import traceable_experts
from rankport.exporters.graphs.masks import sees
from rankport.exporters.graphs.passes.early_rows import select_marked_early
from rankport.exporters.graphs.passes.fusions.for_cuda import fuse_for_cuda
from rankport.exporters.graphs.passes.half_precision import to_half_precision
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.graphs.trace import cut, drop_intermediate_shapes, trace
from rankport.exporters.kinds.texts.attention import fused_attention
from rankport.exporters.quantization.kernels.select import graph_kernels
from rankport.protos.errors import CheckpointError
from rankport.runtime.backends.layouts.marked import EMBEDDINGS, IDS, MARKS, POSITIONS, ROWS
from rankport.runtime.bundle.manifest import Precision, Target
from rankport.runtime.kinds.list_ranker.rules import ROLE

VECTORS = "vectors"
_LISTS, _TOKENS, _MARKS, _EMBEDDINGS = 3, 7, 2, 5  # of the trace
Shape = list[str | int]


class ListGraph(nn.Module):
    """(input_ids, marks and, of some, embedding_rows and embeddings, and position_ids) -> [lists, marks, width]."""

    def __init__(self, model: ListRankerModel) -> None:
        super().__init__()
        self.model = model
        self._places: Tensor | None = None  # of the trace

    def forward(
        self,
        input_ids: Tensor,
        marks: Tensor,
        embedding_rows: Tensor | None = None,
        embeddings: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        """Reads padded prompts at their markers; a token whose row is not -1 is that embedding.

        position_ids [tokens] int64 are the places of tokens in every prompt; left out, they are counted from shapes.
        """
        inputs: Tensor = self.model.get_input_embeddings()(input_ids)
        if embeddings is not None and embedding_rows is not None:
            given = embeddings[embedding_rows.clamp(min=0)]
            inputs = torch.where((embedding_rows >= 0)[:, :, None], given, inputs)
        if position_ids is None:
            vectors: Tensor = self.model(input_ids, marks, inputs)
            return vectors
        self._places = position_ids
        hidden: Tensor = self.model.model(
            inputs_embeds=inputs,
            position_ids=position_ids[None],
            attention_mask=input_ids == input_ids,  # without one, transformers looks for prompts in a row
            use_cache=False,
        ).last_hidden_state
        return self.model.read(hidden, marks)

    def seen(
        self,
        batch_size: int,
        q_length: int,
        kv_length: int,
        *,
        mask_function: Callable[..., Any],
        **more: Any,
    ) -> Tensor | None:
        """Says who sees whom, as the attention interface asks: the same in every prompt, bool [1, 1, tokens, tokens].

        None: each token those before it, as padding stands behind all real tokens.
        """
        if mask_function is causal_mask_function:
            return None
        assert self._places is not None
        rows, columns = self._places[None, None, :, None], self._places[None, None, None, :]
        return sees(mask_function, rows, columns)


def list_model(source: Checkpoint) -> ListRankerModel:
    """Gives the module of a checkpoint. Raises CheckpointError if it ranks no lists."""
    if not isinstance(source.model, ListRankerModel):
        raise CheckpointError(
            f"{source.architecture} is read at no markers: a list ranker's config.json says model_type "
            "'rankport-list-ranker', or architecture JinaForRanking, or list_ranker.toml beside it says how it is read"
        )
    return source.model


def list_graphs(
    width: int, hidden: int | None, source: Checkpoint, target: Target, precision: Precision
) -> dict[str, RoleGraph]:
    """Traces the graph; `hidden` is the width of embedding tokens, None where none are taken."""
    model, on_gpu = list_model(source), target == "onnx-cuda"
    generator = torch.Generator().manual_seed(0)
    tokens: Shape = ["lists", "list_tokens"]
    arguments: dict[str, Tensor | list[Tensor]] = {
        IDS: torch.ones(_LISTS, _TOKENS, dtype=torch.int64),
        MARKS: torch.randint(0, _TOKENS, (_LISTS, _MARKS), generator=generator),
    }
    axes: dict[str, Shape] = {IDS: tokens, MARKS: ["lists", "marks"]}
    if hidden is not None:
        arguments[ROWS] = torch.full((_LISTS, _TOKENS), -1)
        arguments[EMBEDDINGS] = torch.randn(_EMBEDDINGS, hidden, generator=generator)
        axes |= {ROWS: tokens, EMBEDDINGS: ["embedding_count", hidden]}
    module = ListGraph(model)
    if on_gpu:
        arguments[POSITIONS], axes[POSITIONS] = torch.arange(_TOKENS), ["list_tokens"]
    fused = fused_attention(model.model, module.seen) if on_gpu else nullcontext()
    with graph_kernels(model, target), traceable_experts(model, target), fused:
        traced = trace(module, arguments, axes, [VECTORS])
    graph = cut(traced, {VECTORS: ["lists", "marks", width]})
    select_marked_early(graph, MARKS)
    if on_gpu:
        fuse_for_cuda(graph)
    if precision != "fp32":
        to_half_precision(graph, precision, fused=on_gpu)
    drop_intermediate_shapes(graph)
    return {ROLE: RoleGraph(graph, {ROLE: (VECTORS,)})}
