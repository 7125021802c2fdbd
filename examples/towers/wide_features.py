"""The wide features: BM25 of text and title, and the length of a text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.esco.baselines import Bm25, words
from examples.towers.cranfield import Collection
from rankport.runtime.bundle.sections.wide import WideFeature

NAMES = ("bm25", "title_bm25", "words")


@dataclass(frozen=True, slots=True)
class WideIndex:
    """Features of a query with every document."""

    texts: Bm25
    titles: Bm25
    words: NDArray[np.float32]  # [docs]

    @classmethod
    def build(cls, collection: Collection) -> "WideIndex":
        """Counts words once."""
        lengths = np.array([len(words(text)) for text in collection.docs], np.float32)
        return cls(Bm25.build(collection.docs), Bm25.build(collection.titles), lengths)

    def features(self, query: str) -> dict[str, NDArray[np.float32]]:
        """Computes each feature by its name, as a request brings them. [docs]"""
        scores = [index.scores(query).astype(np.float32) for index in (self.texts, self.titles)]
        return dict(zip(NAMES, [*scores, self.words], strict=True))

    def columns(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """Computes the features of several queries. [queries, docs, features]"""
        return np.stack([np.stack([*self.features(query).values()], axis=1) for query in queries])


def scaled(columns: NDArray[np.float32]) -> list[WideFeature]:
    """States features scaled by their mean and deviation over the training queries; NaN counts as the mean."""
    flat = columns.reshape(-1, len(NAMES)).astype(np.float64)
    return [
        WideFeature(name=name, scaling="mean-std", mean=float(mean), std=float(std), nan=float(mean))
        for name, mean, std in zip(NAMES, flat.mean(axis=0), flat.std(axis=0), strict=True)
    ]
