"""Judging of list rankers: queries with candidates in a random order, all rankers over the same ones."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.esco.baselines import CUTOFF
from examples.esco.dataset import Dataset, JudgedQuery
from examples.esco.minilm import MiniLM
from examples.listwise.training import DrawnList
from rankport.exporters.proof.metrics import ndcg
from rankport.runtime.kinds.list_ranker.list_ranker import ListRanker
from rankport.sdk import Scorer

Scores = list[NDArray[np.float32]]
"""Scores of lists. [titles] each"""


def judged_lists(dataset: Dataset, queries: Sequence[JudgedQuery], candidates: int | None) -> list[DrawnList]:
    """Makes lists of the judged candidates and, up to a number of `candidates`, others that nobody judged: gain 0."""
    rng = np.random.default_rng(11)
    titles = {item.id: item.title for item in dataset.items}
    known = list(titles)
    lists = []
    for query in queries:
        gains = dict(zip(query.item_ids, query.gains, strict=True))
        if candidates is not None:
            others = [known[place] for place in rng.permutation(len(known)) if known[place] not in gains]
            gains |= dict.fromkeys(others[: candidates - len(gains)], 0)
        ids = [list(gains)[place] for place in rng.permutation(len(gains))]
        lists.append(
            DrawnList(query.text, [titles[id] for id in ids], np.array([gains[id] for id in ids], np.int64))
        )
    return lists


def mean_ndcg(lists: Sequence[DrawnList], scores: Scores) -> float:
    """Averages NDCG@10."""
    pairs = zip(lists, scores, strict=True)
    return float(np.mean([ndcg(row, drawn.gains.tolist(), CUTOFF) for drawn, row in pairs]))


def by_minilm(lists: Sequence[DrawnList]) -> Scores:
    """Scores by the cosine of MiniLM's vectors of query and title."""
    texts = sorted({text for drawn in lists for text in (drawn.query, *drawn.titles)})
    vectors = dict(zip(texts, MiniLM.load().encode(texts), strict=True))
    return [np.stack([vectors[title] for title in drawn.titles]) @ vectors[drawn.query] for drawn in lists]


def by_bundle(bundle: Path, lists: Sequence[DrawnList], on_list: Callable[[], None] = lambda: None) -> Scores:
    """Scores by any bundle that scores texts."""
    scores: Scores = []
    with Scorer.load(bundle) as scorer:
        prefix = (lambda query: {"query": query}) if isinstance(scorer, ListRanker) else (lambda query: query)
        for drawn in lists:
            scores.append(scorer.score(prefix(drawn.query), drawn.titles).scores)
            on_list()
    return scores
