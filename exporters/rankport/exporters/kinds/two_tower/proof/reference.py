"""The source run the plain way: its own two methods, one text at a time, without padding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rankport.exporters.checkpoints.two_tower.config import Side
from rankport.exporters.checkpoints.two_tower.module import TowersModule

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TowersReference:
    """Representations and logits of a module, in fp32."""

    module: TowersModule

    def represent(self, runs: Sequence[NDArray[np.int64]], side: Side) -> Rows:
        """Represents runs of token ids. [runs, width]"""
        return np.stack([self._row(run, side) for run in runs])

    def logits(self, query: Rows, items: Rows, features: Rows | None) -> Rows:
        """Scores items [items, width] against a query [width]. [items, outputs]"""
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

    def _row(self, run: NDArray[np.int64], side: Side) -> Rows:
        ids = torch.from_numpy(run)[None]
        with torch.no_grad():
            row: Rows = self.module.represent(ids, torch.ones_like(ids), side)[0].float().numpy()
        return row
