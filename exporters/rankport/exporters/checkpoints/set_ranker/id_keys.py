"""Keys of a table in torch, and what owners give as the ids of its rows.

Ids of 64 bits are int64 in tensors, unsigned ones by their bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from rankport.protos.arguments import number_array
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.sections.sets import IdTable, IdType

OwnersIds = ArrayLike | Mapping[int, int]
"""The id of each row, from the first on; or the row of each id."""
_MOST_SIGNED = 2**63 - 1


class IdKeys(nn.Module):
    """(ids int64 [n]) -> their rows [n], -1 where one is no key. Its buffers are part of a checkpoint."""

    keys: Tensor  # [keys] ascending, as int64
    rows: Tensor  # [keys]

    def __init__(self, count: int) -> None:
        """Makes keys that are rows, until others are loaded or assigned."""
        super().__init__()
        self.register_buffer("keys", torch.arange(count))
        self.register_buffer("rows", torch.arange(count))

    def assign(self, owned: "KeyedRows") -> None:
        """Takes what an owner gave."""
        order = np.argsort(owned.ids)
        self.keys, self.rows = torch.from_numpy(owned.ids[order]), torch.from_numpy(owned.rows[order])

    def forward(self, ids: Tensor) -> Tensor:
        """Finds rows."""
        places = torch.searchsorted(self.keys, ids).clamp(max=len(self.keys) - 1)
        return self.rows[places].masked_fill(self.keys[places] != ids, -1)

    def check(self, table: str, rows: int) -> None:
        """Raises CheckpointError where what was loaded is no keys of a table of so many rows."""
        unordered = self.keys[1:] <= self.keys[:-1]
        if unordered.any():
            place = int(unordered.int().argmax())
            before, key = self.keys[place : place + 2].tolist()
            raise CheckpointError(
                f"ids.{table}.keys[{place + 1}] is {key}, behind {before}: keys must ascend, all different"
            )
        outside = (self.rows < 0) | (self.rows >= rows)
        if outside.any():
            place = int(outside.int().argmax())
            raise CheckpointError(
                f"ids.{table}.rows[{place}] is {self.rows[place]}: table {table!r} has {rows} rows"
            )


def keys_of(tables: Mapping[str, IdTable]) -> nn.ModuleDict:
    """Makes the keys of the tables that are looked up by key."""
    return nn.ModuleDict({name: IdKeys(table.key_count) for name, table in tables.items() if table.key_count})


@dataclass(frozen=True, slots=True)
class KeyedRows:
    """Ids of a table's rows, as their owner gave them."""

    ids: NDArray[np.int64]  # [keys], all different, unsigned ones by their bits
    rows: NDArray[np.int64]  # [keys]
    kind: IdType

    @classmethod
    def of(cls, given: OwnersIds, table: str, rows: int, kind: IdType | None = None) -> "KeyedRows":
        """Takes the ids of a table's rows; without a `kind` that of their array, of a list uint64 where one needs it.

        Raises InvalidRequest naming an id that is no whole number of the kind, is given twice, or has no row.
        """
        where = f"ids[{table!r}]"
        if isinstance(given, Mapping):
            ids, places = _whole(list(given), where), _whole(list(given.values()), f"rows of {where}")
        else:
            ids = _whole(given, where)
            places = np.arange(len(ids))
        kind = kind or ("uint64" if ids.dtype.kind == "u" else "int64")
        wrong = ids < 0 if kind == "uint64" else ids > _MOST_SIGNED
        if wrong.any():
            raise InvalidRequest(
                f"{where} has {ids[wrong.argmax()]}, which is no {kind}: say which the ids are, in the table"
            )
        outside = (places < 0) | (places >= rows)
        if outside.any():
            place = int(outside.argmax())
            raise InvalidRequest(
                f"{where} has row {places[place]} of id {ids[place]}: the table has {rows} rows"
            )
        ordered = np.sort(ids)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            raise InvalidRequest(f"{where} has id {twice[0]} twice: an id has one row")
        return cls(ids.view(np.int64), places.view(np.int64), kind)


def _whole(given: ArrayLike, where: str) -> NDArray[np.int64] | NDArray[np.uint64]:
    array = number_array(given)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array):
        raise InvalidRequest(
            f"{where} is {array.dtype} {list(array.shape)}: give whole numbers of 64 bits, at least one, [ids]"
        )
    return array.astype(np.uint64) if array.dtype.kind == "u" else array.astype(np.int64)
