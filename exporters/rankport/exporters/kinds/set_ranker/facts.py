"""Facts of a ranker of sets that an export needs, of the reference module and of a module of one's own alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.set_ranker.id_keys import IdKeys, KeyedRows, OwnersIds, keys_of
from rankport.exporters.checkpoints.set_ranker.inputs import FeatureInput
from rankport.exporters.checkpoints.set_ranker.module import SetRankerModel
from rankport.exporters.kinds.set_ranker.rows import table_of
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.manifest import LayerKV, Score
from rankport.runtime.bundle.sections.sets import IdTable, SetSchema


@dataclass(frozen=True, slots=True)
class SetFacts:
    """Schema, names and sizes of a ranker of sets."""

    schema: SetSchema
    outputs: tuple[str, ...]  # names of the heads
    head_weights: Mapping[str, float]
    score: Score  # of a head
    layers: tuple[LayerKV, ...]  # of its state
    hidden_size: int
    encoder_fingerprint: str | None = None


class OwnSets(nn.Module):
    """A module of one's own with its facts and tables: a `SetsModule`."""

    def __init__(
        self,
        module: nn.Module,
        facts: SetFacts,
        tables: Mapping[str, Tensor],
        ids: Mapping[str, OwnersIds] = MappingProxyType({}),
    ) -> None:
        """Raises InvalidRequest for ids that do not fit the schema."""
        super().__init__()
        self.module, self.facts = module, facts
        self.tables = nn.ModuleDict({name: table_of(rows) for name, rows in tables.items()})
        self.ids = keys_of(facts.schema.tables)
        if unused := sorted(ids.keys() - self.ids.keys()):
            raise InvalidRequest(f"ids: {unused[0]!r} is no table that the schema looks up by keys")
        for name, keys in self.ids.items():
            assert isinstance(keys, IdKeys)
            keys.assign(_owned(facts.schema.tables[name], name, ids))

    def history(self, events: Tensor, times: Tensor, past: list[Tensor], past_times: Tensor) -> list[Tensor]:
        """Computes a state as the module does."""
        state: list[Tensor] = self.module.history(events, times, past, past_times)  # type: ignore[operator]
        return state

    def rank(
        self, candidates: Tensor, now: Tensor, past: list[Tensor], past_times: Tensor, sessions: Tensor | None
    ) -> Tensor:
        """Scores as the module does. [candidates, heads]"""
        logits: Tensor = self.module.rank(candidates, now, past, past_times, sessions)  # type: ignore[operator]
        return logits

    def get_input_embeddings(self) -> nn.Module:
        """Gives its first table, or a stand-in of one row."""
        return next(iter(self.tables.values()), nn.Embedding(1, 1))

    def get_output_embeddings(self) -> None:
        """Has none."""


def _owned(table: IdTable, name: str, ids: Mapping[str, OwnersIds]) -> KeyedRows:
    """Takes the ids of a table, as many as the schema says."""
    if name not in ids:
        raise InvalidRequest(f"ids: lacks those of table {name!r}, which the schema looks up by keys")
    owned = KeyedRows.of(ids[name], name, table.rows, table.ids)
    if len(owned.ids) != table.key_count:
        raise InvalidRequest(
            f"ids[{name!r}] has {len(owned.ids)} ids, the schema says {table.key_count}: say so in the table's `keys`"
        )
    return owned


AnySets = SetRankerModel | OwnSets


def sets_of(source: Checkpoint) -> AnySets:
    """Gives the module of a checkpoint. Raises CheckpointError if it ranks no sets."""
    if not isinstance(source.model, SetRankerModel | OwnSets):
        raise CheckpointError(
            f"{source.architecture} ranks no sets: a checkpoint's config.json says model_type 'rankport-set-ranker', a "
            "module of one's own is given to `export_set_ranker`"
        )
    return source.model


def facts_of(module: AnySets) -> SetFacts:
    """Finds the facts of a module."""
    if isinstance(module, OwnSets):
        return module.facts
    config = module.config
    probability = config.score == "probability"
    layer = LayerKV(kv_heads=config.attention_heads, head_dim=config.head_dim)
    return SetFacts(
        schema=config.sets,
        outputs=config.outputs,
        head_weights=config.weights,
        score=Score(
            kind="probability" if probability else "logit", transform="sigmoid" if probability else "none"
        ),
        layers=(layer,) * len(config.blocks),
        hidden_size=config.hidden_size,
        encoder_fingerprint=config.encoder_fingerprint,
    )


def features_of(schema: SetSchema) -> FeatureInput:
    """Makes what joins features in torch."""
    return FeatureInput(schema)


def keys_by_table(module: AnySets) -> dict[str, NDArray[np.int64]]:
    """Gives the keys of the tables that are looked up by them, ascending."""
    return {name: keys.keys.numpy() for name, keys in module.ids.items() if isinstance(keys, IdKeys)}
