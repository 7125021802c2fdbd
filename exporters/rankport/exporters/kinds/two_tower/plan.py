"""The plan of two towers: limits, representations, outputs and wide features."""

from functools import partial

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.late_interaction.module import LateInteraction
from rankport.exporters.checkpoints.late_interaction.unseen import require_seen
from rankport.exporters.kinds.two_tower.facts import TowerFacts, facts_of
from rankport.exporters.kinds.two_tower.graphs import two_tower_graphs
from rankport.exporters.kinds.two_tower.options import TwoTowerOptions
from rankport.exporters.kinds.work import ExportPlan
from rankport.exporters.options.prompts import ResolvedPrompt
from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.manifest import Embedding, Labels, Limits, ModelShape


def plan_two_tower(source: Checkpoint, prompt: ResolvedPrompt, options: TwoTowerOptions) -> ExportPlan:
    """Plans two towers. Raises CheckpointError or InvalidRequest for what cannot be exported."""
    facts = facts_of(source)
    if isinstance(source.model, LateInteraction):
        require_seen(source.model)
    dtype = options.output_dtype or "float32"
    limits = _limits(facts, options)
    vectors = facts.vectors(limits)
    return ExportPlan(
        shape=ModelShape(hidden_size=facts.width, vocab_size=source.vocab_size, layers=[]),
        limits=limits,
        labels=Labels(
            source="classification_head",
            names=list(facts.outputs),
            ids=list(range(len(facts.outputs))),
            positive=facts.positive,
        ),
        score=facts.score,
        wide=facts.wide,
        embedding=Embedding(
            tokens=vectors["item"],
            hidden_size=facts.width,
            dtype=dtype,
            form="vocabulary" if facts.sparse else "dense",
        ),
        graphs=partial(two_tower_graphs, facts, vectors, dtype),
    )


def _limits(facts: TowerFacts, options: TwoTowerOptions) -> Limits:
    if facts.late and options.max_item_tokens == 1:
        raise InvalidRequest(
            "--max-item-tokens 1: late interaction has a vector for each token of an item: give more"
        )
    return Limits(
        max_prefix_tokens=_limit("max-prefix-tokens", options.max_prefix_tokens, facts.max_query_tokens),
        max_item_tokens=_limit("max-item-tokens", options.max_item_tokens, facts.max_item_tokens),
    )


def _limit(flag: str, asked: int | None, stated: int) -> int:
    if asked is not None and asked > stated:
        raise InvalidRequest(f"--{flag} {asked}: the towers read {stated} tokens there: ask for no more")
    return asked or stated
