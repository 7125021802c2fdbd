"""The source run the plain way: one pair at a time by the checkpoint's own class, without padding.

Pairs are made by the checkpoint's own tokenizer where it has one. Shares no code with the exported graph, nor with the
runtime that frames and cuts pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rankport.exporters.kinds.texts.encoder_reference import whole_text

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PairIds:
    """A pair as the model is given it."""

    ids: Ids  # [tokens]
    types: Ids | None  # [tokens]; None: the model is given none


@dataclass(frozen=True, slots=True)
class PairReference:
    """Logits of a class of transformers that ends in a classification head."""

    model: nn.Module

    def logits(self, pairs: Sequence[PairIds]) -> NDArray[np.float32]:
        """Computes the logits of pairs. [pairs, labels]"""
        return np.stack([self._logits(pair) for pair in pairs])

    def _logits(self, pair: PairIds) -> NDArray[np.float32]:
        types = {} if pair.types is None else {"token_type_ids": torch.tensor(pair.types)[None]}
        with torch.no_grad():
            row = self.model(**whole_text(self.model, pair.ids), **types).logits[0]
        values: NDArray[np.float32] = row.float().numpy()
        return values
