"""Texts of a request beside each other, longest first: at step t the first so many are not over yet."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ByStep:
    """Units of some texts, step by step, without padding. Make it with `of`."""

    lengths: NDArray[np.int64]  # [texts] units, descending, at least one
    begins: NDArray[np.int64]  # [texts] first unit of each
    active: list[int]  # [longest] texts that have a unit at each step

    @classmethod
    def of(cls, offsets: NDArray[np.int64]) -> "ByStep":
        """Sorts texts [texts + 1 offsets of units], leaving out those without units."""
        lengths = np.diff(offsets)
        order = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
        longest = int(lengths.max(initial=0))
        active = np.searchsorted(-lengths[order], -np.arange(longest), side="left")
        return cls(lengths[order], offsets[:-1][order], active.tolist())

    @property
    def longest(self) -> int:
        """Steps."""
        return len(self.active)

    def units(self, step: int) -> NDArray[np.int64]:
        """Gives the units of a step. [active texts]"""
        return self.begins[: self.active[step]] + step

    def ending(self, step: int) -> slice:
        """Slices the texts whose last unit is that of a step."""
        after = self.active[step + 1] if step + 1 < self.longest else 0
        return slice(after, self.active[step])
