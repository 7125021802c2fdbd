"""Texts of one encode pass beside each other: [items, item tokens], padded at the end."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PaddedTexts:
    """Token ids of some texts, and how many tokens each has."""

    ids: NDArray[np.int64]  # [items, longest], 0 where padded
    lengths: NDArray[np.int64]  # [items]

    def arrays(self) -> dict[str, NDArray[np.int64]]:
        """Graph inputs by name."""
        mask = np.arange(self.ids.shape[1])[None, :] < self.lengths[:, None]
        return {"input_ids": self.ids, "attention_mask": mask.astype(np.int64)}

    def padded_to(self, items: int, item_tokens: int) -> "PaddedTexts":
        """The same in a larger rectangle. What is added is texts of one token, so that its attention is defined."""
        more_items, more_tokens = items - self.ids.shape[0], item_tokens - self.ids.shape[1]
        return PaddedTexts(
            np.pad(self.ids, ((0, more_items), (0, more_tokens))),
            np.pad(self.lengths, (0, more_items), constant_values=1),
        )


def padded_texts(runs: Sequence[NDArray[np.int64]]) -> PaddedTexts:
    """In the order of `runs`, padded to the longest."""
    lengths = np.array([len(run) for run in runs], np.int64)
    ids = np.zeros((len(runs), int(lengths.max())), np.int64)
    ids[np.arange(ids.shape[1])[None, :] < lengths[:, None]] = np.concatenate(runs)
    return PaddedTexts(ids, lengths)
