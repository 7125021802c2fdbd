"""Training lists: for each phrase its own occupation, others of its unit group, and hard negatives.

Owns the sampling; knows nothing of the model. Lists look like the judged ones, but none of those is read, and no
held-out item is in any of them.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.esco.baselines import Bm25
from examples.esco.dataset import Dataset

NEIGHBOURS = 40  # nearest items that hard negatives are drawn from
MINOR_GROUP_DIGITS = 3  # of the ISCO code


@dataclass(frozen=True, slots=True)
class ListShape:
    """How many items of each kind a list has; places that a kind cannot fill go to random items."""

    partial: int = 3
    lexical: int = 4
    semantic: int = 3
    minor_group: int = 1
    random: int = 4

    @property
    def items(self) -> int:
        """Items of a list, its positive included."""
        return 1 + self.partial + self.lexical + self.semantic + self.minor_group + self.random


@dataclass(frozen=True, slots=True)
class ListSampler:
    """Draws lists of item rows and their gains. Items are those that training may read, by their place among these."""

    shape: ListShape
    rows: NDArray[np.int64]  # [items] where each stands in the dataset
    owners: tuple[NDArray[np.int64], ...]  # [phrases] items that the phrase names
    lexical: NDArray[np.int64]  # [phrases, NEIGHBOURS] nearest items by BM25
    semantic: NDArray[np.int64]  # [items, NEIGHBOURS] nearest items by MiniLM cosine
    units: tuple[NDArray[np.int64], ...]  # [items] items of the same ISCO unit group
    minor_groups: tuple[NDArray[np.int64], ...]  # [items] items of the same ISCO minor group
    isco: NDArray[np.str_]  # [items]

    @classmethod
    def build(cls, dataset: Dataset, item_tokens: NDArray[np.floating], shape: ListShape) -> "ListSampler":
        """Finds every neighbour once. `item_tokens` are unit vectors [items of the dataset, dim]."""
        rows = np.array(dataset.training_rows())
        items = [dataset.items[row] for row in rows]
        places = {item.id: place for place, item in enumerate(items)}
        index = Bm25.build([item.text for item in items])
        tokens = item_tokens[rows].astype(np.float32)
        return cls(
            shape=shape,
            rows=rows,
            owners=tuple(np.array([places[id] for id in sorted(p.item_ids)]) for p in dataset.phrases),
            lexical=np.stack([_nearest(index.scores(phrase.text)) for phrase in dataset.phrases]),
            semantic=np.stack([_nearest(row) for row in tokens @ tokens.T]),
            units=_groups([item.isco for item in items]),
            minor_groups=_groups([item.isco[:MINOR_GROUP_DIGITS] for item in items]),
            isco=np.array([item.isco for item in items]),
        )

    def draw(self, phrase: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the dataset, the positive first, all different, and their gains. [items], [items]"""
        owners, shape = self.owners[phrase], self.shape
        positive = int(rng.choice(owners))
        places = [positive]
        self._fill(places, self.units[positive], 1 + shape.partial, owners, rng)
        self._fill(places, self.lexical[phrase], len(places) + shape.lexical, owners, rng)
        self._fill(places, self.semantic[positive], len(places) + shape.semantic, owners, rng)
        self._fill(places, self.minor_groups[positive], len(places) + shape.minor_group, owners, rng)
        self._fill(places, np.arange(len(self.isco)), shape.items, owners, rng)
        drawn = np.array(places)
        gains = (self.isco[drawn] == self.isco[positive]).astype(np.int64)
        gains[0] = 2
        return self.rows[drawn], gains

    def draw_batch(
        self, phrases: Sequence[int], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Item rows and gains of several phrases. [phrases, items], [phrases, items]"""
        rows, gains = zip(*(self.draw(phrase, rng) for phrase in phrases), strict=True)
        return np.stack(rows), np.stack(gains)

    @staticmethod
    def _fill(
        places: list[int],
        pool: NDArray[np.int64],
        size: int,
        owners: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> None:
        """Adds items of `pool` to `places` up to `size`; another owner of the phrase is never a negative."""
        tries = rng.choice(pool, min(len(pool), 3 * size), replace=False)
        for place in tries.tolist():
            if len(places) == size:
                return
            if place not in places and place not in owners:
                places.append(place)


def _nearest(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    top = np.argpartition(-scores, NEIGHBOURS)[:NEIGHBOURS]
    return top[np.argsort(-scores[top], kind="stable")]


def _groups(names: list[str]) -> tuple[NDArray[np.int64], ...]:
    members: defaultdict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        members[name].append(row)
    return tuple(np.array(members[name]) for name in names)
