"""Jobs and candidates of ESCO: a job title, a candidate's summary, and how well they fit.

Owns the summaries and the levels; the judged titles are those of `examples.esco`, of whose training split alone a
classifier learns.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from examples.esco.dataset import Dataset, Item

LEVELS = ("low", "medium", "high")  # by the gain of the item: 0, 1, 2
_SUMMARY_WORDS = 2


@dataclass(frozen=True, slots=True)
class FitPairs:
    """Jobs, candidates and levels, parallel."""

    jobs: list[str]
    candidates: list[str]
    levels: list[int]  # of LEVELS

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Returns job and candidate of each."""
        return list(zip(self.jobs, self.candidates, strict=True))

    @property
    def majority(self) -> float:
        """Share of the most frequent level: the accuracy of who always says it."""
        return max(np.bincount(self.levels)) / len(self.levels)


def summary_of(item: Item) -> str:
    """Writes a candidate who did the work of an occupation: its title, and how its description begins."""
    words = item.description.split()[:_SUMMARY_WORDS]
    return f"Worked as {item.title}. {' '.join(words)}"


def fit_pairs(dataset: Dataset, split: str, most: int | None = None, seed: int = 0) -> FitPairs:
    """Pairs each query of a split with all its candidates, or with `most` of them, so that levels keep their shares.

    Drawing more of those that fit would teach a share of them that no job has.
    """
    summaries: Mapping[str, str] = {item.id: summary_of(item) for item in dataset.items}
    rng = np.random.default_rng(seed)
    rows = []
    for query in dataset.split(split):
        levels = np.array(query.gains)
        places = np.arange(len(levels))
        if most is not None:
            places = rng.permutation(places)[:most]
        rows += [(query.text, summaries[query.item_ids[place]], int(levels[place])) for place in places]
    jobs, candidates, wanted = zip(*rows, strict=True)
    return FitPairs(list(jobs), list(candidates), list(wanted))
