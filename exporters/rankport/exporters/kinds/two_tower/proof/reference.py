"""The source run the plain way: its own two methods, one text at a time, without padding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rankport.exporters.checkpoints.two_tower.module import TowersModule
from rankport.protos.types import Side

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TowersReference:
    """Representations and logits of a module, in fp32. A representation is [vectors, width], of one vector or many."""

    module: TowersModule
    vectors: Mapping[Side, int]
    late: bool

    def represent(self, runs: Sequence[NDArray[np.int64]], side: Side) -> Rows:
        """Represents runs of token ids, behind the vectors that the module makes by zeros. [runs, vectors, width]"""
        return np.stack([self._rows(run, side) for run in runs])

    def logits(self, query: Rows, items: Rows, features: Rows | None) -> Rows:
        """Scores items [items, vectors, width] against a query [vectors, width]. [items, outputs]"""
        if not self.late:
            query, items = query[0], items[:, 0]
        with torch.no_grad():
            logits: Rows = (
                self.module.score(
                    torch.from_numpy(query),
                    torch.from_numpy(items),
                    None if features is None else torch.from_numpy(features),
                )
                .float()
                .numpy()
            )
        return logits

    def _rows(self, run: NDArray[np.int64], side: Side) -> Rows:
        ids = torch.from_numpy(run)[None]
        with torch.no_grad():
            made: Rows = self.module.represent(ids, torch.ones_like(ids), side)[0].float().numpy()
        if not self.late:
            return made[None]
        rows = np.zeros((self.vectors[side], made.shape[1]), np.float32)
        rows[: len(made)] = made
        return rows
