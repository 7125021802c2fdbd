"""`bleu`: how much of texts is in their references, over a corpus."""

import math
from collections import Counter
from collections.abc import Sequence

_LONGEST = 4


def bleu(texts: Sequence[str], references: Sequence[str]) -> float:
    """Computes BLEU of words, with one reference a text (Papineni et al. 2002, ACL P02-1040, section 2.3).

    The brevity penalty times the geometric mean of the shares of runs of 1 to 4 words that are in the reference, each
    counted at most as often as there; runs are pooled over all texts. 0 to 1.
    """
    shared, there = Counter[int](), Counter[int]()
    words = references_words = 0
    for text, reference in zip(texts, references, strict=True):
        ours, theirs = text.split(), reference.split()
        words, references_words = words + len(ours), references_words + len(theirs)
        for size in range(1, _LONGEST + 1):
            runs = _runs(ours, size)
            there[size] += runs.total()
            shared[size] += (runs & _runs(theirs, size)).total()
    if not all(shared[size] for size in range(1, _LONGEST + 1)):
        return 0.0
    precision = sum(math.log(shared[size] / there[size]) for size in shared) / _LONGEST
    return math.exp(min(0.0, 1 - references_words / words) + precision)


def _runs(words: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + size]) for start in range(len(words) - size + 1))
