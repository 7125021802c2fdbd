"""Vectors of MiniLM for the training texts, computed once: the ranker's start and the teacher's side of its losses.

Reads training phrases, the items that training may read, and single words of MiniLM's own vocabulary; no held-out item.
"""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.esco.cosine_start import embedding_rows
from examples.esco.dataset import Dataset
from examples.esco.minilm import MiniLM
from examples.esco.vocabulary import known_words, ranker_tokenizer

NEAREST = 10  # phrases that say how near a word is to the domain
PHRASE_STEP = 4  # of the phrases it is compared with


@dataclass(frozen=True, slots=True)
class Teacher:
    """Texts and their unit vectors."""

    phrases: NDArray[np.float32]  # [phrases of the dataset, hidden]
    words: tuple[str, ...]  # single words, from all of MiniLM's vocabulary
    word_vectors: NDArray[np.float32]  # [words, hidden]

    @classmethod
    def build(cls, dataset: Dataset, minilm: MiniLM) -> "Teacher":
        """Encodes phrases and words."""
        words = known_words(minilm.tokenizer.backend_tokenizer)
        return cls(minilm.encode([p.text for p in dataset.phrases]), tuple(words), minilm.encode(words))

    def nearest_words(self, count: int) -> list[str]:
        """The words that are nearest to training phrases, by their mean cosine to the `NEAREST` nearest ones."""
        some = self.phrases[::PHRASE_STEP]
        blocks = np.array_split(self.word_vectors, 1 + len(self.words) // 1000)
        nearness = np.concatenate(
            [np.partition(block @ some.T, -NEAREST, 1)[:, -NEAREST:].mean(1) for block in blocks]
        )
        return [self.words[row] for row in np.argsort(nearness)[::-1][:count]]


def build_vocabulary(
    dataset: Dataset, minilm: MiniLM, teacher: Teacher, nearest: int, constant: NDArray[np.floating]
) -> tuple[Any, NDArray[np.float32]]:
    """The ranker's tokenizer and the rows [pieces, hidden] that its embedding starts from.

    A piece's row is MiniLM's vector of it as a text, weighted by the logarithm of its inverse document frequency.
    """
    phrases = [phrase.text for phrase in dataset.phrases]
    items = [dataset.items[row].text for row in dataset.training_rows()]
    source = minilm.tokenizer.backend_tokenizer
    tokenizer = ranker_tokenizer(source, phrases, items, teacher.nearest_words(nearest))
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    found = Counter(id for text in (*phrases, *items) for id in set(tokenizer.encode(text)))
    total = len(phrases) + len(items)
    weights = np.log([total / (found[id] + 1) for id in range(len(tokenizer))])
    vectors = minilm.encode([re.sub("^##", "", piece) for piece in pieces])
    return tokenizer, embedding_rows(vectors, weights / weights.max(), constant)
