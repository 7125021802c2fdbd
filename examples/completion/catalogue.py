"""Titles that are completed, and those that a language model learns from: halves of ESCO's phrases, none in both."""

import bisect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from examples.esco.dataset import Dataset

LEARNED = 0.6  # of the phrases
MOST = 100  # candidates


@dataclass(frozen=True, slots=True)
class Keystrokes:
    """A title that somebody types, with what stands in the box when candidates are first few enough, and after."""

    title: str
    typed: tuple[str, ...]  # each a character longer than the one before


class Catalogue:
    """Titles by their beginnings, with how many occupations each names."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._titles = sorted(counts)

    def __len__(self) -> int:
        return len(self._titles)

    def starting_with(self, typed: str) -> list[str]:
        """Finds the titles that begin so and go on, in the order of frequency: most occupations, then the shortest."""
        first = bisect.bisect_left(self._titles, typed)
        last = bisect.bisect_left(self._titles, typed + "\U0010ffff", lo=first)
        found = [title for title in self._titles[first:last] if title != typed]
        return sorted(found, key=lambda title: (-self._counts[title], len(title), title))

    def drawn(self, count: int, seed: int, steps: int = 3) -> list[Keystrokes]:
        """Draws titles, and types each from where it has at most `MOST` candidates, for some keystrokes."""
        rng, drawn = np.random.default_rng(seed), list[Keystrokes]()
        for place in rng.permutation(len(self._titles)).tolist():
            title = self._titles[place]
            begins = [title[:end] for end in range(1, len(title))]
            few = [begin for begin in begins if 2 <= len(self.starting_with(begin)) <= MOST]
            if few:
                drawn.append(Keystrokes(title, tuple(few[:steps])))
            if len(drawn) == count:
                break
        return drawn


def split(dataset: Dataset, seed: int = 0) -> tuple[list[str], Catalogue]:
    """Splits the phrases: titles to learn from, and a catalogue of others."""
    counts = Counter({phrase.text.lower(): len(phrase.item_ids) for phrase in dataset.phrases})
    titles = sorted(counts)
    order = np.random.default_rng(seed).permutation(len(titles)).tolist()
    cut = int(LEARNED * len(titles))
    learned = [titles[place] for place in order[:cut]]
    return learned, Catalogue(Counter({titles[place]: counts[titles[place]] for place in order[cut:]}))


def reciprocal_rank(ranked: Sequence[str], title: str, most: int = 10) -> float:
    """Computes 1 / rank of the title among the first `most`, 0 where it is not there."""
    shown = list(ranked[:most])
    return 1 / (1 + shown.index(title)) if title in shown else 0.0
