"""`TwoTower`: the reference module. And `TowersModule`, the two methods by which a module of one's own is exported."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.own_form import write_own_form
from rankport.exporters.checkpoints.two_tower.config import (
    BertTower,
    Place,
    TwoTowerConfig,
)
from rankport.exporters.checkpoints.two_tower.scoring import WideInput, interact, make_head, values_of
from rankport.exporters.checkpoints.two_tower.towers import make_tower
from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Side


@runtime_checkable
class TowersModule(Protocol):
    """Two towers as any module may have them. Tensors are float32 unless said otherwise.

    A representation is one vector [width], or of late interaction several, [vectors, width].
    """

    def represent(self, input_ids: Tensor, attention_mask: Tensor, side: Side) -> Tensor:
        """Computes representations of texts, both [texts, tokens] int64, padded at the end. [texts, width]"""

    def score(self, query: Tensor, items: Tensor, features: Tensor | None) -> Tensor:
        """Scores a query [width] and items [items, width], with wide features [items, features] if any.

        Returns the logits. [items, outputs]
        """


class TwoTower(nn.Module):
    """Two towers of a config: a `TowersModule` that trains, saves and loads."""

    def __init__(self, config: TwoTowerConfig, bodies: Mapping[Place, nn.Module] | None = None) -> None:
        """Makes the module, its weights drawn at random; `bodies` are those of BERT towers, which are kept.

        Raises CheckpointError where a tower and its body do not fit.
        """
        super().__init__()
        self.config = config
        own = bodies or {}
        self.towers = nn.ModuleDict(
            {
                place: make_tower(tower, config.vocab_size, own.get(place))
                for place, tower in config.towers.items()
            }
        )
        self.wide = WideInput(config.wide)
        values = values_of(config.interactions, config.width) + len(config.wide)
        self.head = make_head(config.head, values)

    def represent(self, input_ids: Tensor, attention_mask: Tensor, side: Side) -> Tensor:
        """Computes representations of texts. [texts, width]"""
        rows: Tensor = self.towers[self.config.place(side)](input_ids, attention_mask)
        return rows

    def score(self, query: Tensor, items: Tensor, features: Tensor | None = None) -> Tensor:
        """Scores a query [width] and items [items, width], features [items, features] as a request brings them."""
        values = interact(self.config.interactions, query, items)
        if self.config.wide:
            if features is None:
                names = ", ".join(feature.name for feature in self.config.wide)
                raise InvalidRequest(f"features are missing: give {names}")
            values = torch.cat([values, self.wide(features)], dim=1)
        logits: Tensor = self.head(values)
        return logits

    def forward(
        self,
        query_ids: Tensor,
        query_mask: Tensor,
        item_ids: Tensor,
        item_mask: Tensor,
        features: Tensor | None = None,
    ) -> Tensor:
        """Scores the items [items, tokens] of one query [1, tokens]. [items, outputs]"""
        query = self.represent(query_ids, query_mask, "query")[0]
        return self.score(query, self.represent(item_ids, item_mask, "item"), features)

    def save(self, folder: Path, tokenizer_file: Path | None = None) -> None:
        """Writes a checkpoint: config.json, model.safetensors and the tokenizer.json given."""
        write_own_form(folder, self.config, self)
        if tokenizer_file is not None:
            shutil.copyfile(tokenizer_file, folder / "tokenizer.json")

    def get_input_embeddings(self) -> nn.Module:
        """Gives the word embeddings of the tower that reads items, as models of transformers do."""
        table: nn.Module = self.towers[self.config.place("item")].embedding  # type: ignore[assignment]
        return table

    def get_output_embeddings(self) -> None:
        """Has none: a head of two towers makes no tokens."""

    def tie_weights(self) -> None:
        """Does nothing: the body of a tower ties nothing to a head."""


def bert_tower(body: nn.Module, **fields: Any) -> BertTower:
    """Makes a BERT tower's config of a loaded body of transformers."""
    config: Any = body.config
    raw = {key: value for key, value in config.to_diff_dict().items() if not key.startswith("_")}
    for unread in ("dtype", "transformers_version", "architectures"):
        raw.pop(unread, None)
    return BertTower(type="bert", body={"hidden_size": config.hidden_size, **raw}, **fields)
