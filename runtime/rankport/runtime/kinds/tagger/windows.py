"""Overlapping windows over texts that are longer than a model reads, and which of them speaks for each token."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import offsets_of
from rankport.runtime.tokens import places_within


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of a request's texts: one of each, none of an empty one, several of a long one. Make it with `of`."""

    text: NDArray[np.int64]  # [windows] ascending
    starts: NDArray[np.int64]  # [windows] first token within the text
    lengths: NDArray[np.int64]  # [windows] tokens
    tokens: NDArray[np.int64]  # [tokens of all windows] place of each in the tokens of all texts
    speaks: NDArray[np.int64]  # [tokens] which of those in windows speaks for each token of the texts

    @classmethod
    def of(cls, lengths: NDArray[np.int64], room: int, overlap: int) -> "Windows":
        """Places windows of at most `room` tokens; neighbours share at least `overlap`, which is less than that.

        The windows of a text are all full, and lie evenly. For a token speaks the window that
        shows most of the text on its poorer side; a side that reaches the text's own edge lacks nothing. `lengths`
        [texts] are tokens.
        """
        step = room - overlap
        counts = np.where(lengths <= room, lengths > 0, 1 - (room - lengths) // step)
        text = np.repeat(np.arange(len(lengths)), counts)
        starts = (
            places_within(counts) * np.maximum(lengths - room, 0)[text] // np.maximum(counts[text] - 1, 1)
        )
        held = np.minimum(lengths, room)[text]
        places = places_within(held)
        tokens = np.repeat(offsets_of(lengths)[:-1][text] + starts, held) + places
        if len(tokens) == lengths.sum():
            return cls(text, starts, held, tokens, np.arange(len(tokens)))
        # More than any side has, where the text itself ends.
        left = places + np.repeat(np.where(starts > 0, 0, room), held)
        right = np.repeat(held, held) - 1 - places
        right += np.repeat(np.where(starts + held < lengths[text], 0, room), held)
        order = np.lexsort((-np.minimum(left, right), tokens))
        _, first = np.unique(tokens[order], return_index=True)
        return cls(text, starts, held, tokens, order[first])

    @property
    def counts(self) -> NDArray[np.int64]:
        """Windows of each text that has some, and of those before it. [texts up to the last]"""
        return np.bincount(self.text)
