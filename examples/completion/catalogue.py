"""Candidates of what was typed: ends of titles that there were, as a log of queries has them.

Candidates are made as [Mitra and Craswell (2015)](https://doi.org/10.1145/2806416.2806599) make them: the last words of
known titles that begin as the word under the cursor, behind the words before it. So titles that nobody has typed yet
are among them, and their order by frequency knows nothing of the words before.
"""

import bisect
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from examples.esco.dataset import Dataset

LEARNED = 0.8  # of the phrases
MOST = 100  # candidates
_WORDS = 4  # of an end


@dataclass(frozen=True, slots=True)
class Keystrokes:
    """A title that somebody types, and what stands in the box after each of some keystrokes within a word."""

    title: str
    typed: tuple[str, ...]  # each a character longer than the one before


class Endings:
    """Ends of known titles, with how often there is each."""

    def __init__(self, titles: Iterable[str]) -> None:
        self._counts: Counter[str] = Counter()
        for title in titles:
            words = title.split(" ")
            self._counts.update(" ".join(words[-count:]) for count in range(1, min(_WORDS, len(words)) + 1))
        self._ends = sorted(self._counts)

    def completions(self, typed: str, most: int = MOST) -> list[str]:
        """Finds ends that begin as the last word does: the most frequent first, then the shortest."""
        word = typed[typed.rfind(" ") + 1 :]
        first = bisect.bisect_left(self._ends, word)
        last = bisect.bisect_left(self._ends, word + "\U0010ffff", lo=first)
        found = [end for end in self._ends[first:last] if end != word]
        found.sort(key=lambda end: (-self._counts[end], len(end), end))
        return found[:most]


def split(dataset: Dataset, seed: int = 0) -> tuple[list[str], list[str]]:
    """Splits the titles: those to learn from, and those that are typed."""
    titles = sorted({phrase.text.lower() for phrase in dataset.phrases})
    order = np.random.default_rng(seed).permutation(len(titles)).tolist()
    cut = int(LEARNED * len(titles))
    return [titles[place] for place in order[:cut]], [titles[place] for place in order[cut:]]


def typing(titles: Sequence[str], count: int, steps: int = 3) -> list[Keystrokes]:
    """Types titles of several words, each up to some characters of its second word."""
    typed = list[Keystrokes]()
    for title in titles:
        words = title.split(" ")
        if len(words) > 1 and len(words[1]) > steps:
            begin = len(words[0]) + 1
            typed.append(Keystrokes(title, tuple(title[: begin + step] for step in range(1, steps + 1))))
    return typed[:count]


def words_of(typed: str) -> str:
    """Gives what is typed but for the word under the cursor."""
    return typed[: typed.rfind(" ") + 1].strip()


def reciprocal_rank(ranked: Sequence[str], wanted: str, most: int = 10) -> float:
    """Computes 1 / rank of what is wanted among the first `most`, 0 where it is not there."""
    shown = list(ranked[:most])
    return 1 / (1 + shown.index(wanted)) if wanted in shown else 0.0
