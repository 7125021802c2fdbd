"""`Padded`: texts of one pass beside each other, [items, item tokens], padded at the end."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.layouts.layout import HostArray
from rankport.runtime.tokens import TokenRuns


@dataclass(frozen=True, slots=True)
class Padded:
    """Token ids of some texts, and how many tokens each has. Make it with `pad`."""

    ids: NDArray[np.int64]  # [items, longest], 0 where padded
    lengths: NDArray[np.int64]  # [items]

    def inputs(self, items: int, item_tokens: int) -> Mapping[str, HostArray]:
        """Makes graph inputs by name, of this many texts. Those added have one token, so that attention is defined."""
        lengths = np.pad(self.lengths, (0, items - len(self.lengths)), constant_values=1)
        mask = (np.arange(item_tokens)[None, :] < lengths[:, None]).astype(np.int64)
        return {
            "input_ids": HostArray.padded((items, item_tokens), self.ids),
            "attention_mask": HostArray.padded(mask.shape, mask),
        }


def pad(texts: TokenRuns) -> Padded:
    """Puts texts beside each other in their order, padded to the longest."""
    lengths = texts.lengths
    ids = np.zeros((len(texts), int(lengths.max())), np.int64)
    ids[np.arange(ids.shape[1])[None, :] < lengths[:, None]] = texts.ids
    return Padded(ids, lengths)
