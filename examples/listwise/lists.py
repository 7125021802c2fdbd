"""Lists of occupations with a query: the judged ones, and those drawn around a phrase as the judged ones are made.

Of a judged query's candidates its own occupation has gain 2, others of that unit group (ISCO) 1, all others 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.esco.dataset import GAINS, Dataset, JudgedQuery

ITEMS = 20  # of a judged list
_NEAR = 50  # occupations of other unit groups, of which some are in a drawn list


@dataclass(frozen=True, slots=True)
class TrainingList:
    """A query and its candidates."""

    query: str
    rows: NDArray[np.int64]  # [items] places in the dataset
    gains: NDArray[np.float32]  # [items]


def judged_lists(dataset: Dataset) -> list[TrainingList]:
    """Gives the judged lists of the training split, without occupations that are held out."""
    rows, known = dataset.rows(), set(dataset.training_rows())
    lists = []
    for query in dataset.split("train"):
        judged = [(rows[item], gain) for item, gain in zip(query.item_ids, query.gains, strict=True)]
        lists.append(_list(query.text, [(row, gain) for row, gain in judged if row in known]))
    return lists


def phrase_lists(
    dataset: Dataset, item_tokens: NDArray[np.floating], count: int, rng: np.random.Generator
) -> list[TrainingList]:
    """Draws lists around `count` phrases; near occupations are so by their `item_tokens` [items, hidden]."""
    known = np.array(dataset.training_rows())
    tokens = item_tokens[known].astype(np.float32)
    units = np.array([dataset.items[row].isco for row in known])
    places = {dataset.items[row].id: place for place, row in enumerate(known)}
    lists = []
    for phrase in (dataset.phrases[place] for place in rng.permutation(len(dataset.phrases))[:count]):
        own = [places[item] for item in sorted(phrase.item_ids)]
        related = np.isin(units, units[own])
        nearest = np.argpartition(-(tokens @ tokens[own[0]]), _NEAR)[:_NEAR]
        partial = rng.permutation(np.setdiff1d(np.flatnonzero(related), own))[: rng.integers(2, 10)]
        near = rng.permutation(nearest[~related[nearest]])[: rng.integers(2, 7)]
        others = rng.permutation(np.setdiff1d(np.flatnonzero(~related), near))
        others = others[: max(0, ITEMS - len(own) - len(partial) - len(near))]
        gains = {"Exact": own, "Partial": partial, "Irrelevant": [*near, *others]}
        lists.append(
            _list(phrase.text, [(known[place], GAINS[name]) for name in gains for place in gains[name]])
        )
    return lists


def shuffled(queries: Sequence[JudgedQuery], seed: int = 11) -> list[JudgedQuery]:
    """Puts the candidates of each query in a random order."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(query.item_ids)) for query in queries]
    return [_in_order(query, order) for query, order in zip(queries, orders, strict=True)]


def lengthened(
    dataset: Dataset, queries: Sequence[JudgedQuery], items: int, seed: int = 12
) -> list[JudgedQuery]:
    """Adds occupations that nobody judged for a query, of gain 0, up to a number of `items`."""
    rng = np.random.default_rng(seed)
    longer = []
    for query in queries:
        known = set(query.item_ids)
        others = [dataset.items[row].id for row in rng.permutation(len(dataset.items))[:items]]
        others = [item for item in others if item not in known][: items - len(known)]
        gains = (*query.gains, *(0 for _ in others))
        longer.append(JudgedQuery(query.id, query.text, query.split, (*query.item_ids, *others), gains))
    return shuffled(longer, seed)


def _in_order(query: JudgedQuery, order: NDArray[np.int64]) -> JudgedQuery:
    ids, gains = (tuple(values[place] for place in order) for values in (query.item_ids, query.gains))
    return JudgedQuery(query.id, query.text, query.split, ids, gains)


def _list(query: str, judged: Sequence[tuple[int, int]]) -> TrainingList:
    rows, gains = zip(*judged, strict=True)
    return TrainingList(query, np.array(rows, np.int64), np.array(gains, np.float32))
