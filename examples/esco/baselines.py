"""The rankers that the trained one is measured against: random order, BM25, MiniLM cosine."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.esco.dataset import Dataset, JudgedQuery
from rankport.exporters.proof.metrics import ndcg

CUTOFF = 10
K1, B = 1.5, 0.75
RANDOM_RUNS = 20


@dataclass(frozen=True, slots=True)
class Bm25:
    """Okapi BM25 over a fixed list of texts (Robertson and Zaragoza, 2009)."""

    postings: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]  # word -> texts with it, their weights
    texts: int

    @classmethod
    def build(cls, texts: Sequence[str]) -> "Bm25":
        """Weighs every word of every text once, so that a query only adds up."""
        counts = [Counter(words(text)) for text in texts]
        lengths = np.array([count.total() for count in counts], np.float64)
        norm = K1 * (1 - B + B * lengths / lengths.mean())
        rows: defaultdict[str, list[int]] = defaultdict(list)
        for row, count in enumerate(counts):
            for word in count:
                rows[word].append(row)
        postings = {}
        for word, hits in rows.items():
            idf = math.log(1 + (len(texts) - len(hits) + 0.5) / (len(hits) + 0.5))
            frequency = np.array([counts[row][word] for row in hits], np.float64)
            postings[word] = (np.array(hits), idf * frequency * (K1 + 1) / (frequency + norm[hits]))
        return cls(postings, len(texts))

    def scores(self, query: str) -> NDArray[np.float64]:
        """One score a text, 0 where no word is shared. [texts]"""
        total = np.zeros(self.texts)
        for word in words(query):
            if word in self.postings:
                rows, weights = self.postings[word]
                total[rows] += weights
        return total


def words(text: str) -> list[str]:
    """Lower-case runs of letters and digits."""
    return re.findall(r"[a-z0-9]+", text.lower())


def mean_ndcg(queries: Sequence[JudgedQuery], scores: Sequence[NDArray[np.floating]]) -> float:
    """Mean NDCG@10 of one score array a query, each in the order of its items."""
    return float(
        np.mean([ndcg(row, query.gains, CUTOFF) for query, row in zip(queries, scores, strict=True)])
    )


def random_ndcg(queries: Sequence[JudgedQuery], seed: int = 0) -> float:
    """Mean NDCG@10 over `RANDOM_RUNS` random orders of every query."""
    rng = np.random.default_rng(seed)
    runs = [
        mean_ndcg(queries, [rng.random(len(query.item_ids)) for query in queries]) for _ in range(RANDOM_RUNS)
    ]
    return float(np.mean(runs))


def bm25_ndcg(dataset: Dataset, queries: Sequence[JudgedQuery]) -> float:
    """Mean NDCG@10 of BM25 over the items' texts."""
    index, rows = Bm25.build([item.text for item in dataset.items]), dataset.rows()
    return mean_ndcg(
        queries, [index.scores(query.text)[[rows[id] for id in query.item_ids]] for query in queries]
    )


def cosine_ndcg(
    dataset: Dataset,
    queries: Sequence[JudgedQuery],
    query_vectors: NDArray[np.floating],
    item_vectors: NDArray[np.floating],
) -> float:
    """Mean NDCG@10 of the cosine of unit vectors: [queries, dim] in order, [items, dim] in dataset order."""
    rows = dataset.rows()
    scores = [
        item_vectors[[rows[id] for id in query.item_ids]] @ vector
        for query, vector in zip(queries, query_vectors, strict=True)
    ]
    return mean_ndcg(queries, scores)
