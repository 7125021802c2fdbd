"""The graph of a list ranker: prompts with markers, embedding tokens among them, to what is read at each marker."""

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.list_ranker.module import ListRankerModel
from rankport.exporters.graphs.experts import traceable_experts
from rankport.exporters.graphs.passes.early_rows import select_marked_early
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.graphs.trace import cut, drop_intermediate_shapes, trace
from rankport.exporters.quantization.kernels.select import graph_kernels
from rankport.protos.errors import CheckpointError
from rankport.runtime.backends.layouts.marked import EMBEDDINGS, IDS, MARKS, ROWS
from rankport.runtime.bundle.manifest import Precision, Target
from rankport.runtime.kinds.list_ranker.rules import ROLE

VECTORS = "vectors"
_LISTS, _TOKENS, _MARKS, _EMBEDDINGS = 3, 7, 2, 5  # of the trace
Shape = list[str | int]


class ListGraph(nn.Module):
    """(input_ids, marks and, of some, embedding_rows and embeddings) -> [lists, marks, width]."""

    def __init__(self, model: ListRankerModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: Tensor,
        marks: Tensor,
        embedding_rows: Tensor | None = None,
        embeddings: Tensor | None = None,
    ) -> Tensor:
        """Reads padded prompts at their markers; a token whose row is not -1 is that embedding."""
        inputs: Tensor = self.model.get_input_embeddings()(input_ids)
        if embeddings is not None and embedding_rows is not None:
            given = embeddings[embedding_rows.clamp(min=0)]
            inputs = torch.where((embedding_rows >= 0)[:, :, None], given, inputs)
        vectors: Tensor = self.model(input_ids, marks, inputs)
        return vectors


def list_model(source: Checkpoint) -> ListRankerModel:
    """Gives the module of a checkpoint. Raises CheckpointError if it ranks no lists."""
    if not isinstance(source.model, ListRankerModel):
        raise CheckpointError(
            f"{source.architecture} is read at no markers: a list ranker's config.json says model_type "
            "'rankport-list-ranker', or architecture JinaForRanking"
        )
    return source.model


def list_graphs(
    width: int, hidden: int | None, source: Checkpoint, target: Target, precision: Precision
) -> dict[str, RoleGraph]:
    """Traces the graph; `hidden` is the width of embedding tokens, None where none are taken."""
    model = list_model(source)
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
    with graph_kernels(model, target), traceable_experts(model):
        traced = trace(ListGraph(model), arguments, axes, [VECTORS])
    graph = cut(traced, {VECTORS: ["lists", "marks", width]})
    select_marked_early(graph, MARKS)
    drop_intermediate_shapes(graph)
    return {ROLE: RoleGraph(graph, {ROLE: (VECTORS,)})}
