"""`SetRankerModel`: the reference module. And `SetsModule`, the two methods by which one's own module is exported."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.own_form import write_own_form
from rankport.exporters.checkpoints.set_ranker.attention import Past, Peers
from rankport.exporters.checkpoints.set_ranker.blocks import BLOCKS, HstuBlock, LigrBlock
from rankport.exporters.checkpoints.set_ranker.config import SetRankerConfig, Tower
from rankport.exporters.checkpoints.set_ranker.id_keys import IdKeys, KeyedRows, OwnersIds, keys_of
from rankport.exporters.checkpoints.set_ranker.inputs import FeatureInput
from rankport.protos.errors import InvalidRequest


@runtime_checkable
class SetsModule(Protocol):
    """Ranker of sets as any module may be one. Tensors are float32, times int64."""

    def history(self, events: Tensor, times: Tensor, past: list[Tensor], past_times: Tensor) -> list[Tensor]:
        """Computes the state of events [new, width], times [new], behind a past: key and value a layer, in turn.

        An event sees those before it and itself. `past` and the result: [heads, events, head_dim] each.
        """

    def rank(
        self, candidates: Tensor, now: Tensor, past: list[Tensor], past_times: Tensor, sessions: Tensor | None
    ) -> Tensor:
        """Scores candidates [candidates, width] at the time `now` [1] behind a history.

        Each sees the history and itself, and with `sessions` [candidates] those of the same number. Returns logits.
        [candidates, heads]
        """


class SetRankerModel(nn.Module):
    """Ranker of sets of a config: a `SetsModule` that trains, saves and loads."""

    def __init__(self, config: SetRankerConfig) -> None:
        """Makes the module, its weights drawn at random."""
        super().__init__()
        self.config = config
        sets, size = config.sets, config.hidden_size
        self.tables = nn.ModuleDict(
            {name: nn.Embedding(table.rows, table.width) for name, table in sets.tables.items()}
        )
        self.ids = keys_of(sets.tables)
        self.inputs = FeatureInput(sets)
        self.event_in = nn.Linear(sets.width(sets.event), size)
        self.candidate_in = nn.Linear(sets.width(sets.candidate), size)
        self.blocks = nn.ModuleList(BLOCKS[name](config) for name in config.blocks)
        self.norm = nn.LayerNorm(size, config.norm_epsilon)
        self.towers = nn.ModuleDict({tower.name: _mlp(size, tower) for tower in config.towers})

    def event_features(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Joins the features of events, ids looked up, scalars scaled. [events, width]"""
        rows: Tensor = self.inputs(self.config.sets.event, columns, self.tables, self.ids)
        return rows

    def candidate_features(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Joins the features of candidates. [candidates, width]"""
        rows: Tensor = self.inputs(self.config.sets.candidate, columns, self.tables, self.ids)
        return rows

    def history(self, events: Tensor, times: Tensor, past: list[Tensor], past_times: Tensor) -> list[Tensor]:
        """See `SetsModule.history`."""
        old, new = past_times.shape[0], times.shape[0]
        places = torch.arange(new)
        behind = places[:, None] + _places_back(old)
        back_s = times[:, None] - past_times[None]
        apart, apart_s = (places[:, None] - places[None]).clamp(min=0), times[:, None] - times[None]
        mask = places[:, None] >= places[None]
        rows, state = self.event_in(events), []
        for index, block in enumerate(self._blocks()):
            bias = block.bias
            seen = Past(past[2 * index], past[2 * index + 1], bias(behind, back_s))
            rows, layer = block(rows, seen, Peers(mask, bias(apart, apart_s)))
            state.extend(layer)
        return state

    def rank(
        self, candidates: Tensor, now: Tensor, past: list[Tensor], past_times: Tensor, sessions: Tensor | None
    ) -> Tensor:
        """See `SetsModule.rank`."""
        old = past_times.shape[0]
        behind = _places_back(old)
        back_s = now[:, None] - past_times[None]
        mask = None if sessions is None else sessions[:, None] == sessions[None]
        here = torch.zeros(1, 1, dtype=torch.int64)
        rows = self.candidate_in(candidates)
        for index, block in enumerate(self._blocks()):
            bias = block.bias
            seen = Past(past[2 * index], past[2 * index + 1], bias(behind, back_s))
            rows, _ = block(rows, seen, Peers(mask, bias(here, here)))
        rows = self.norm(rows)
        return torch.cat([tower(rows) for tower in self.towers.values()], dim=1)

    def forward(
        self,
        history: Mapping[str, Tensor],
        candidates: Mapping[str, Tensor],
        times: Tensor | None = None,
        now: Tensor | None = None,
        sessions: Tensor | None = None,
    ) -> Tensor:
        """Scores the candidates of one user in one go, features as columns by name. [candidates, heads]"""
        events = self.event_features(history)
        when = torch.zeros(len(events), dtype=torch.int64) if times is None else times
        state = self.history(events, when, self.no_past(), torch.zeros(0, dtype=torch.int64))
        at = torch.zeros(1, dtype=torch.int64) if now is None else now
        return self.rank(self.candidate_features(candidates), at, state, when, sessions)

    def no_past(self) -> list[Tensor]:
        """Makes the state of no events."""
        config = self.config
        return [
            torch.zeros(config.attention_heads, 0, config.head_dim) for _ in range(2 * len(config.blocks))
        ]

    def with_ids(self, ids: Mapping[str, OwnersIds]) -> "SetRankerModel":
        """Gives the same model, whose rows are looked up by the ids that their owner has, by table.

        Raises InvalidRequest for a table that is not there, and as `KeyedRows.of`.
        """
        tables = self.config.sets.tables
        unknown = sorted(ids.keys() - tables.keys())
        if unknown:
            raise InvalidRequest(f"ids: {unknown[0]!r} is no table: there are {', '.join(sorted(tables))}")
        keyed = {name: KeyedRows.of(given, name, tables[name].rows) for name, given in ids.items()}
        fields = self.config.model_dump(mode="json", exclude_defaults=True)
        for name, own in keyed.items():
            stated = fields["sets"]["tables"][name]
            stated.pop("seed", None)
            stated |= {"lookup": "keys", "keys": len(own.ids), "ids": own.kind}
        with torch.device("meta"):
            model = SetRankerModel(SetRankerConfig.model_validate(fields))
        others = tuple(f"ids.{name}." for name in keyed)
        state = {name: value for name, value in self.state_dict().items() if not name.startswith(others)}
        model.load_state_dict(state, strict=False, assign=True)
        for name, own in keyed.items():
            model.keys_of(name).assign(own)
        return model.train(self.training)

    def keys_of(self, table: str) -> IdKeys:
        """Gives the keys of a table that is looked up by them."""
        return cast(IdKeys, self.ids[table])

    def save(self, folder: Path) -> None:
        """Writes a checkpoint: config.json and model.safetensors."""
        write_own_form(folder, self.config, self)

    def get_input_embeddings(self) -> nn.Module:
        """Gives its first table, or a stand-in of one row: what reads the size of a vocabulary asks for it."""
        return next(iter(self.tables.values()), nn.Embedding(1, 1))

    def get_output_embeddings(self) -> None:
        """Has none: a ranker of sets makes no tokens."""

    def tie_weights(self) -> None:
        """Does nothing: nothing is tied."""

    def _blocks(self) -> Sequence[LigrBlock | HstuBlock]:
        return cast(Sequence[LigrBlock | HstuBlock], self.blocks)


def _mlp(size: int, tower: Tower) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inner in tower.hidden:
        layers += [nn.Linear(size, inner), nn.SiLU()]
        size = inner
    return nn.Sequential(*layers, nn.Linear(size, len(tower.outputs)))


def _places_back(old: int) -> Tensor:
    """Counts events down to the last one, which is 1 place back. [1, old]

    Counted so, the size itself stays on the host: copied to a GPU, it would keep a pass from being recorded.
    """
    return torch.arange(old, 0, -1)[None]
