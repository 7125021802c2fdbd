"""Facts of two towers that an export needs, of the reference module and of a module of one's own alike."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.late_interaction.module import LateInteraction
from rankport.exporters.checkpoints.sparse.module import SparseEncoder
from rankport.exporters.checkpoints.two_tower.config import TwoTowerConfig
from rankport.exporters.checkpoints.two_tower.module import TowersModule, TwoTower
from rankport.exporters.checkpoints.two_tower.scoring import WideInput
from rankport.exporters.kinds.texts.positions import position_limit
from rankport.protos.errors import CheckpointError
from rankport.protos.types import Side
from rankport.runtime.bundle.manifest import Limits, Score
from rankport.runtime.bundle.sections.wide import WideFeature


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerFacts:
    """Sizes, names and limits of two towers."""

    width: int  # of a vector
    outputs: tuple[str, ...]  # names of the logits
    positive: int = 0  # which of them a score speaks for
    wide: tuple[WideFeature, ...] = ()
    shared: bool  # one tower reads both sides
    max_query_tokens: int
    max_item_tokens: int
    score: Score
    late: bool = False  # a representation has a vector for each token
    sparse: bool = False  # a representation has a weight for each token of the vocabulary
    expanded_query_tokens: int | None = None  # that a query of late interaction always has

    def vectors(self, limits: Limits) -> Mapping[Side, int]:
        """Counts the vectors of a representation by side; those of late interaction go by the limits of a bundle."""
        if not self.late:
            return {"query": 1, "item": 1}
        return {
            "query": self.expanded_query_tokens or limits.max_prefix_tokens,
            "item": limits.max_item_tokens,
        }


class OwnTowers(nn.Module):
    """A module of one's own with its facts: a `TowersModule` whose wide features are scaled before it sees them."""

    def __init__(self, module: nn.Module, facts: TowerFacts) -> None:
        super().__init__()
        self.module, self.facts = module, facts
        self.wide = WideInput(facts.wide)
        tables = (part for part in module.modules() if isinstance(part, nn.Embedding))
        self._table: tuple[nn.Module, ...] = (next(tables, nn.Identity()),)  # no part of it a second time

    def represent(self, input_ids: Tensor, attention_mask: Tensor, side: Side) -> Tensor:
        """Represents as the module does. [texts, width]"""
        rows: Tensor = self.module.represent(input_ids, attention_mask, side)  # type: ignore[operator]
        return rows

    def score(self, query: Tensor, items: Tensor, features: Tensor | None = None) -> Tensor:
        """Scores as the module does. [items, outputs]"""
        scaled = None if features is None else self.wide(features)
        logits: Tensor = self.module.score(query, items, scaled)  # type: ignore[operator]
        return logits

    def get_input_embeddings(self) -> nn.Module:
        """Gives its first table of embeddings, as models of transformers do."""
        return self._table[0]

    def get_output_embeddings(self) -> None:
        """Has none: a head of two towers makes no tokens."""


def towers_of(source: Checkpoint) -> TowersModule:
    """Gives the module of a checkpoint. Raises CheckpointError if it has no towers."""
    if not isinstance(source.model, TowersModule):
        raise CheckpointError(
            f"{source.architecture} has no two towers: a checkpoint's config.json says model_type "
            "'rankport-two-tower', a module of one's own is given to `export_towers`"
        )
    return source.model


def facts_of(source: Checkpoint) -> TowerFacts:
    """Finds the facts of a checkpoint's towers. Raises CheckpointError as `towers_of`."""
    module = towers_of(source)
    if isinstance(module, TwoTower):
        _require_positions(module)
        return _stated(module.config)
    if isinstance(module, LateInteraction):
        return _late(module)
    if isinstance(module, SparseEncoder):
        return _sparse(module)
    assert isinstance(module, OwnTowers)
    return module.facts


def body_of(module: nn.Module, side: Side) -> nn.Module:
    """Finds the model of transformers that reads a side, where there is one; else the module itself."""
    if isinstance(module, TwoTower):
        tower = module.towers[module.config.place(side)]
        return getattr(tower, "body", tower)
    if isinstance(module, SparseEncoder):
        return module.body(side)
    return module.body if isinstance(module, LateInteraction) else module


def _stated(config: TwoTowerConfig) -> TowerFacts:
    return TowerFacts(
        width=config.width,
        outputs=config.outputs,
        positive=0 if config.head is None else config.head.positive,
        wide=tuple(config.wide),
        shared=config.shared,
        max_query_tokens=config.max_query_tokens,
        max_item_tokens=config.max_item_tokens,
        score=_score(config),
    )


_MOST_TOKENS = 1024
"""Tokens of a text where neither a checkpoint nor its positions say how many it may have."""


def _late(module: LateInteraction) -> TowerFacts:
    form = module.form
    most = position_limit(module.body)
    return TowerFacts(
        width=module.width,
        outputs=(form.similarity,),
        shared=False,
        max_query_tokens=_tokens(form.where, "query", form.query_tokens, most),
        max_item_tokens=_tokens(form.where, "item", form.item_tokens, most),
        score=Score(kind="logit", transform="none"),
        late=True,
        expanded_query_tokens=form.query_tokens if form.expansion else None,
    )


def _sparse(module: SparseEncoder) -> TowerFacts:
    form = module.form
    most = position_limit(module.model)
    return TowerFacts(
        width=module.width,
        outputs=(form.similarity,),
        shared=module.static is None,
        max_query_tokens=_tokens(
            form.where, "query", form.query_tokens, most if module.static is None else None
        ),
        max_item_tokens=_tokens(form.where, "item", form.item_tokens, most),
        score=Score(kind="cosine" if form.similarity == "cosine" else "logit", transform="none"),
        sparse=True,
    )


def _tokens(where: str, side: Side, stated: int | None, most: int | None) -> int:
    """Chooses the longest text of a side: as stated, else as positions end. CheckpointError for more than these."""
    if most is not None and stated is not None and stated > most:
        raise CheckpointError(
            f"{where}: a {side} may have {stated} tokens, and the position encodings end at {most}: lower it"
        )
    return stated or (_MOST_TOKENS if most is None else min(most, _MOST_TOKENS))


def _score(config: TwoTowerConfig) -> Score:
    if config.head is None and config.interactions == ["cosine"]:
        return Score(kind="cosine", transform="none")
    if config.objective == "pointwise":
        return Score(kind="probability", transform="sigmoid")
    return Score(kind="logit", transform="none")


def _require_positions(module: TwoTower) -> None:
    for side, stated in (("query", module.config.max_query_tokens), ("item", module.config.max_item_tokens)):
        body = body_of(module, side)  # type: ignore[arg-type]
        most = position_limit(body) if hasattr(body, "config") else None
        if most is not None and stated > most:
            raise CheckpointError(
                f"config.json: max_{side}_tokens {stated} exceed the position encodings of the tower's body, {most} "
                "tokens: lower it"
            )
