"""The graphs of a ranker of sets: events to their state; state and candidates to the logits of heads."""

import onnx_ir as ir
import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.set_ranker.module import SetsModule
from rankport.exporters.graphs.passes.fusions.for_cuda import fuse_for_cuda
from rankport.exporters.graphs.passes.half_precision import to_half_precision
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.graphs.trace import cut, drop_intermediate_shapes, trace
from rankport.exporters.kinds.set_ranker.facts import SetFacts, sets_of
from rankport.exporters.kinds.set_ranker.id_rows import gather_ids
from rankport.runtime.backends.layouts.sets import (
    CANDIDATE_ROWS,
    CANDIDATES,
    EVENT_ROWS,
    EVENTS,
    HISTORY,
    RANK,
    RANK_SET,
    state_names,
)
from rankport.runtime.bundle.manifest import Precision, Target
from rankport.runtime.bundle.sections.sets import RowType

LOGITS = "logits"
_EVENTS, _PAST, _CANDIDATES = 5, 7, 3  # of the trace
Shape = list[str | int]


class History(nn.Module):
    """(events, times, past_times, past: key and value a layer) -> key and value a layer of the events."""

    def __init__(self, module: SetsModule) -> None:
        super().__init__()
        self.module = module

    def forward(
        self, events: Tensor, times: Tensor, past_times: Tensor, past: list[Tensor]
    ) -> tuple[Tensor, ...]:
        """Computes the state of events behind a past."""
        return tuple(self.module.history(events, times, past, past_times))


class Rank(nn.Module):
    """(candidates, now, past_times, past, and sessions where candidates see each other) -> [candidates, heads]."""

    def __init__(self, module: SetsModule) -> None:
        super().__init__()
        self.module = module

    def forward(
        self,
        candidates: Tensor,
        now: Tensor,
        past_times: Tensor,
        past: list[Tensor],
        sessions: Tensor | None = None,
    ) -> Tensor:
        """Scores candidates behind a history."""
        return self.module.rank(candidates, now, past, past_times, sessions)


def set_ranker_graphs(
    facts: SetFacts, table_dtype: RowType, source: Checkpoint, target: Target, precision: Precision
) -> dict[str, RoleGraph]:
    """Traces the graphs for a target: of a mask with a first pass, one for each. Those for CUDA gather rows of ids."""
    module = sets_of(source)
    policy = facts.schema.mask.policy
    graphs = {HISTORY: RoleGraph(_history(module, facts), {HISTORY: tuple(_state(facts, "state", "events"))})}
    graphs[RANK] = RoleGraph(_rank(module, facts, together=policy == "set-wise"), {RANK: (LOGITS,)})
    if policy == "top":
        graphs[RANK_SET] = RoleGraph(_rank(module, facts, together=True), {RANK_SET: (LOGITS,)})
    for graph in graphs.values():
        if target == "onnx-cuda":
            fuse_for_cuda(graph.model)
        if precision != "fp32":
            to_half_precision(graph.model, precision, fused=target == "onnx-cuda")
        if target == "onnx-cuda":  # behind what rounds: rows of ids are dequantized in fp32
            gather_ids(graph.model, EVENTS, EVENT_ROWS, facts.schema, facts.schema.event, table_dtype)
            gather_ids(
                graph.model, CANDIDATES, CANDIDATE_ROWS, facts.schema, facts.schema.candidate, table_dtype
            )
        drop_intermediate_shapes(graph.model)
    return graphs


def _history(module: SetsModule, facts: SetFacts) -> ir.Model:
    width = facts.schema.width(facts.schema.event)
    generator = torch.Generator().manual_seed(0)
    arguments: dict[str, Tensor | list[Tensor]] = {
        "events": torch.randn(_EVENTS, width, generator=generator),
        "times": torch.arange(_EVENTS) * 100 + 1000,
        "past_times": torch.arange(_PAST) * 100,
        "past": _past(facts, generator),
    }
    axes: dict[str, Shape] = {
        "events": ["events", width],
        "times": ["events"],
        "past_times": ["past"],
        **_state(facts, "past", "past"),
    }
    outputs = _state(facts, "state", "events")
    return cut(trace(History(module), arguments, axes, list(outputs)), outputs)


def _rank(module: SetsModule, facts: SetFacts, *, together: bool) -> ir.Model:
    width = facts.schema.width(facts.schema.candidate)
    generator = torch.Generator().manual_seed(0)
    arguments: dict[str, Tensor | list[Tensor]] = {
        "candidates": torch.randn(_CANDIDATES, width, generator=generator),
        "now": torch.tensor([2000]),
        "past_times": torch.arange(_PAST) * 100,
        "past": _past(facts, generator),
    }
    axes: dict[str, Shape] = {
        "candidates": ["candidates", width],
        "now": [1],
        "past_times": ["past"],
        **_state(facts, "past", "past"),
    }
    if together:
        arguments["sessions"], axes["sessions"] = torch.tensor([0, 0, 1]), ["candidates"]
    traced = trace(Rank(module), arguments, axes, [LOGITS])
    return cut(traced, {LOGITS: ["candidates", len(facts.outputs)]})


def _past(facts: SetFacts, generator: torch.Generator) -> list[Tensor]:
    return [
        torch.randn(layer.kv_heads, _PAST, layer.head_dim, generator=generator)
        for layer in facts.layers
        for _ in range(2)
    ]


def _state(facts: SetFacts, what: str, axis: str) -> dict[str, Shape]:
    shapes: list[Shape] = [[layer.kv_heads, axis, layer.head_dim] for layer in facts.layers for _ in range(2)]
    return dict(zip(state_names(what, len(facts.layers)), shapes, strict=True))
