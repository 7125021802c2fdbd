"""Features of events and candidates in torch: ids looked up in tables, scalars filled and scaled, all joined."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from rankport.runtime.bundle.sets import IdFeature, IdTable, ScalarFeature, SetFeature, SetSchema

_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_BITS = 2**64


class FeatureInput(nn.Module):
    """([columns by name], tables) -> [rows, width] in the order of a schema. Holds no weights."""

    def __init__(self, sets: SetSchema) -> None:
        super().__init__()
        self.sets = sets

    def forward(
        self, features: Sequence[SetFeature], columns: Mapping[str, Tensor], tables: nn.ModuleDict
    ) -> Tensor:
        """Joins features: ids int64 [rows], scalars [rows], vectors [rows, width]."""
        return torch.cat([self._value(feature, columns[feature.name], tables) for feature in features], dim=1)

    def _value(self, feature: SetFeature, column: Tensor, tables: nn.ModuleDict) -> Tensor:
        if isinstance(feature, IdFeature):
            return look_up(tables[feature.table], self.sets.tables[feature.table], column)
        if isinstance(feature, ScalarFeature):
            filled = column if feature.nan is None else torch.nan_to_num(column, nan=feature.nan)
            return ((filled - feature.shift) / feature.divisor)[:, None]
        return column


def look_up(table: nn.Module, policy: IdTable, ids: Tensor) -> Tensor:
    """Looks ids up as the table's policy says. [ids, width]"""
    if policy.lookup == "splitmix64":
        places = [hashed(value, policy.seed) % policy.rows for value in ids.tolist()]
        rows: Tensor = table(torch.tensor(places, dtype=torch.int64))
        return rows
    if policy.unknown == "refuse":
        known: Tensor = table(ids)
        return known
    unknown = (ids < 0) | (ids >= policy.rows)
    rows = table(ids.masked_fill(unknown, policy.shared_row or 0))
    return rows.masked_fill(unknown[:, None], 0) if policy.unknown == "zero" else rows


def hashed(value: int, seed: int) -> int:
    """Hashes an id as SplitMix64 does, in whole numbers of 64 bits."""
    mixed = (((value % _BITS) ^ seed) + _MIX[0]) % _BITS
    mixed = (mixed ^ (mixed >> 30)) * _MIX[1] % _BITS
    mixed = (mixed ^ (mixed >> 27)) * _MIX[2] % _BITS
    return mixed ^ (mixed >> 31)
