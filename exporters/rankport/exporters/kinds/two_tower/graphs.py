"""The graphs of two towers: texts to representations, a graph a side; representations and features to logits."""

from collections.abc import Mapping

import onnx_ir as ir
import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.two_tower.module import TowersModule
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.graphs.trace import cut, drop_intermediate_shapes, trace
from rankport.exporters.kinds.texts.graph import TextGraph, export_text_graph
from rankport.exporters.kinds.two_tower.facts import TowerFacts, body_of, towers_of
from rankport.exporters.quantization.kernels.select import graph_kernels
from rankport.protos.types import Side
from rankport.runtime.bundle.manifest import Precision, Target
from rankport.runtime.kinds.two_tower.rules import APART, SCORE, SHARED

ROWS, LOGITS = "embeddings", "logits"


class Represent(nn.Module):
    """(input_ids, attention_mask), both [items, tokens] int64, padded at the end -> [items, vectors, width]."""

    def __init__(self, module: TowersModule, side: Side, vectors: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.module, self.side, self.vectors, self.dtype = module, side, vectors, dtype

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Represents padded texts, behind their own vectors by zeros."""
        made = self.module.represent(input_ids, attention_mask, self.side)
        if made.dim() == 2:
            return made[:, None, :].to(self.dtype)
        none = made.new_zeros(made.shape[0], self.vectors, made.shape[2])
        return torch.cat([made, none], dim=1)[:, : self.vectors].to(self.dtype)


class ScoreRows(nn.Module):
    """(query, items, features [items, features] or none), float32 -> [items, outputs].

    A query is [width], items are [items, width]; of late interaction [vectors, width] and [items, vectors, width].
    """

    def __init__(self, module: TowersModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, query: Tensor, items: Tensor, features: Tensor | None = None) -> Tensor:
        """Scores representations."""
        return self.module.score(query, items, features)


def two_tower_graphs(
    facts: TowerFacts,
    vectors: Mapping[Side, int],
    dtype: str,
    source: Checkpoint,
    target: Target,
    precision: Precision,
) -> dict[str, RoleGraph]:
    """Traces the graphs of a target. That of the score is in float32 whatever the precision: it runs on the CPU."""
    sides: dict[str, Side] = (
        {SHARED: "item"} if facts.shared else {APART["query"]: "query", APART["item"]: "item"}
    )
    graphs = {
        role: RoleGraph(
            _represent(facts.width, vectors[side], dtype, source, side, target, precision), {role: (ROWS,)}
        )
        for role, side in sides.items()
    }
    return graphs | {SCORE: RoleGraph(_score(facts, vectors, source, target), {SCORE: (LOGITS,)})}


def _represent(
    width: int,
    vectors: int,
    dtype: str,
    source: Checkpoint,
    side: Side,
    target: Target,
    precision: Precision,
) -> ir.Model:
    module = towers_of(source)
    graph = TextGraph(
        Represent(module, side, vectors, torch.float16 if dtype == "float16" else torch.float32),
        body_of(source.model, side),
        ROWS,
        ["items", vectors, width],
    )
    return export_text_graph(graph, target, precision)


def _score(facts: TowerFacts, vectors: Mapping[Side, int], source: Checkpoint, target: Target) -> ir.Model:
    generator = torch.Generator().manual_seed(0)
    query, item = (
        [vectors[side], facts.width] if facts.late else [facts.width] for side in ("query", "item")
    )
    arguments: dict[str, Tensor | list[Tensor]] = {
        "query": torch.randn(query, generator=generator),
        "items": torch.randn([3, *item], generator=generator),
    }
    axes: dict[str, list[str | int]] = {"query": [*query], "items": ["items", *item]}
    if facts.wide:
        arguments["features"] = torch.randn(3, len(facts.wide), generator=generator)
        axes["features"] = ["items", len(facts.wide)]
    with graph_kernels(source.model, target):
        traced = trace(ScoreRows(towers_of(source)), arguments, axes, [LOGITS])
    graph = cut(traced, {LOGITS: ["items", len(facts.outputs)]})
    drop_intermediate_shapes(graph)
    return graph
