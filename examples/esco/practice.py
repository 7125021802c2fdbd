"""Texts to practise on: recombined words of training phrases, of training items and of MiniLM's vocabulary.

A phrase says which occupation it names only for the occupations that training reads. What MiniLM makes of a text can
be learned from any text, so these are about everything; they look like titles without being any that is held out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from examples.esco.dataset import Dataset, variant_key
from examples.esco.vocabulary import words_of

NEARNESS = 1.4  # exponent by which words nearer to the domain come more often
SHARES = (0.3, 0.2, 0.25, 0.25)  # of a changed phrase, two joined phrases, words, a fragment of an item


@dataclass(frozen=True, slots=True)
class PracticeTexts:
    """Draws texts at random."""

    phrases: Sequence[str]
    items: Sequence[Sequence[str]]  # words of each training item's text
    words: Sequence[str]  # nearest to the domain first
    unread: frozenset[frozenset[str]]  # variant keys of what no text may be

    @classmethod
    def of(cls, dataset: Dataset, words: Sequence[str]) -> "PracticeTexts":
        """Texts from what training may read, and `words`."""
        items = [words_of(dataset.items[row].text) for row in dataset.training_rows()]
        return cls([phrase.text for phrase in dataset.phrases], items, words, dataset.unread)

    def draw(self, count: int, rng: np.random.Generator) -> list[str]:
        """`count` different texts, none of them a phrase."""
        kinds: tuple[Callable[[np.random.Generator], str], ...] = (
            self._changed,
            self._joined,
            self._words,
            self._fragment,
        )
        texts: dict[str, None] = {}
        known = set(self.phrases)
        while len(texts) < count:
            text = kinds[int(rng.choice(len(kinds), p=SHARES))](rng)
            if text and text not in known and variant_key(text) not in self.unread:
                texts[text] = None
        return list(texts)

    def _changed(self, rng: np.random.Generator) -> str:
        words = self._phrase(rng)
        for _ in range(1 + int(rng.random() < 0.2)):
            words[int(rng.integers(len(words)))] = self._word(rng)
        return " ".join(words)

    def _joined(self, rng: np.random.Generator) -> str:
        first, second = self._phrase(rng), self._phrase(rng)
        return " ".join(first[: int(rng.integers(1, 3))] + second[-int(rng.integers(1, 4)) :])

    def _words(self, rng: np.random.Generator) -> str:
        return " ".join(self._word(rng) for _ in range(int(rng.integers(2, 4))))

    def _fragment(self, rng: np.random.Generator) -> str:
        words, size = self.items[int(rng.integers(len(self.items)))], int(rng.integers(1, 7))
        start = int(rng.integers(max(1, len(words) - size)))
        return " ".join(words[start : start + size])

    def _phrase(self, rng: np.random.Generator) -> list[str]:
        return self.phrases[int(rng.integers(len(self.phrases)))].split()

    def _word(self, rng: np.random.Generator) -> str:
        return self.words[int(len(self.words) * rng.random() ** NEARNESS)]
