"""Features of events and candidates in torch: ids looked up in tables, scalars filled and scaled, all joined."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from rankport.runtime.bundle.sections.sets import IdFeature, IdTable, ScalarFeature, SetFeature, SetSchema

_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_BITS = 2**64


class FeatureInput(nn.Module):
    """([columns by name], tables, keys) -> [rows, width] in the order of a schema. Holds no weights."""

    def __init__(self, sets: SetSchema) -> None:
        super().__init__()
        self.sets = sets

    def forward(
        self,
        features: Sequence[SetFeature],
        columns: Mapping[str, Tensor],
        tables: nn.ModuleDict,
        keys: nn.ModuleDict,
    ) -> Tensor:
        """Joins features: ids int64 [rows], unsigned ones by their bits, scalars [rows], vectors [rows, width]."""
        return torch.cat(
            [self._value(feature, columns[feature.name], tables, keys) for feature in features], dim=1
        )

    def _value(
        self, feature: SetFeature, column: Tensor, tables: nn.ModuleDict, keys: nn.ModuleDict
    ) -> Tensor:
        if isinstance(feature, IdFeature):
            name, policy = feature.table, self.sets.tables[feature.table]
            return look_up(tables[name], policy, column, keys[name] if policy.lookup == "keys" else None)
        if isinstance(feature, ScalarFeature):
            filled = column if feature.nan is None else torch.nan_to_num(column, nan=feature.nan)
            return ((filled - feature.shift) / feature.divisor)[:, None]
        return column


def look_up(table: nn.Module, policy: IdTable, ids: Tensor, keys: nn.Module | None = None) -> Tensor:
    """Looks ids up as the table's policy says, of lookup `keys` by `keys`. [ids, width]

    Raises IndexError for an id without a row where the policy refuses it.
    """
    places = _places(policy, ids, keys)
    unknown = (places < 0) | (places >= policy.rows)
    if policy.unknown == "refuse":
        known: Tensor = table(places)
        return known
    rows: Tensor = table(places.masked_fill(unknown, policy.shared_row or 0))
    return rows.masked_fill(unknown[:, None], 0) if policy.unknown == "zero" else rows


def _places(policy: IdTable, ids: Tensor, keys: nn.Module | None) -> Tensor:
    """Finds the rows of ids; of one that has none a number that is no row."""
    match policy.lookup:
        case "direct":
            return ids
        case "keys":
            assert keys is not None, "a table of keys has them"
            found: Tensor = keys(ids)
            return found
        case "modulo" if policy.ids == "int64":
            return ids % policy.rows
        case "modulo":
            return torch.tensor([value % _BITS % policy.rows for value in ids.tolist()], dtype=torch.int64)
        case "splitmix64":
            places = [hashed(value, policy.seed) % policy.rows for value in ids.tolist()]
            return torch.tensor(places, dtype=torch.int64)


def hashed(value: int, seed: int) -> int:
    """Hashes an id as SplitMix64 does, in whole numbers of 64 bits."""
    mixed = (((value % _BITS) ^ seed) + _MIX[0]) % _BITS
    mixed = (mixed ^ (mixed >> 30)) * _MIX[1] % _BITS
    mixed = (mixed ^ (mixed >> 27)) * _MIX[2] % _BITS
    return mixed ^ (mixed >> 31)
