"""`Sampler`: the next token of one text by its logits. Owns the order of the rules, which is that of transformers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.generation import Sampling
from rankport.runtime.bundle.manifest import Generation

Logits = NDArray[np.float32]

_PARTS = 16  # for each of the likeliest tokens that are asked for


@dataclass(frozen=True, slots=True)
class SamplingRules:
    """Rules with nothing left open."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float

    @classmethod
    def of(cls, sampling: Sampling, defaults: Generation) -> "SamplingRules":
        """Takes what a request says, and the bundle's word for the rest."""
        return cls(
            *(
                getattr(defaults, name) if getattr(sampling, name) is None else getattr(sampling, name)
                for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
            )
        )


class Sampler:
    """Draws the tokens of one text, the same ones for the same seed whatever shares its passes."""

    def __init__(self, rules: SamplingRules, seed: int | None, prompt: Sequence[int]) -> None:
        self._rules = rules
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._seen = np.unique(np.asarray(prompt, np.int64)) if rules.repetition_penalty != 1.0 else None

    def draw(self, logits: Logits) -> int:
        """Draws the next token. logits [vocabulary], which are not changed."""
        token = self._drawn(self._penalized(logits))
        if self._seen is not None:
            self._seen = np.union1d(self._seen, token)
        return token

    @property
    def needs_all(self) -> bool:
        """True where the likeliest tokens are never enough to draw of."""
        rules = self._rules
        if rules.temperature == 0 or rules.top_k:
            return rules.repetition_penalty < 1
        return not rules.min_p or rules.top_p < 1 or rules.repetition_penalty < 1

    def draw_likeliest(self, tokens: NDArray[np.int64], logits: Logits, bound: float) -> int | None:
        """Draws what `draw` would, given the likeliest tokens and their logits, in any order. [likeliest] each

        `bound`: no other logit is above it. None where another token may come in: then nothing is drawn.
        """
        order = np.argsort(tokens)
        known, values = tokens[order], logits[order]
        if self._seen is not None:
            seen = np.flatnonzero(np.isin(known, self._seen))
            values = penalized(values, seen, self._rules.repetition_penalty)
        if not self._are_enough(values, bound):
            return None
        token = int(known[self._drawn(values)])
        if self._seen is not None:
            self._seen = np.union1d(self._seen, token)
        return token

    def _are_enough(self, values: Logits, bound: float) -> bool:
        """Says whether all others, of logits up to a bound, are out, given those of the likeliest as penalized."""
        rules, count = self._rules, self._rules.top_k
        if rules.temperature == 0:
            return bool(values.max() > bound)
        if not count:
            return bool(_chances(np.array([bound]), float(values.max()), rules.temperature)[0] < rules.min_p)
        return count < len(values) and bool(np.partition(values, -count)[-count] > bound)

    @property
    def ended(self) -> bool:
        """True when nothing can follow what was drawn."""
        return False

    def _drawn(self, logits: Logits) -> int:
        rules = self._rules
        if rules.temperature == 0:
            return int(np.argmax(logits))
        kept = _likeliest(logits, rules.top_k) if 0 < rules.top_k < len(logits) else None
        values = logits if kept is None else logits[kept]
        chances = _chances(values, float(values.max()), rules.temperature)
        if rules.top_p < 1:
            chances[chances < _least_of_nucleus(chances, rules.top_p)] = 0.0
        chances[chances < rules.min_p] = 0.0  # arXiv 2407.01082: the likeliest has 1
        sums = np.cumsum(chances)
        place = int(np.searchsorted(sums, self._random.random() * sums[-1], side="right"))
        place = min(place, len(sums) - 1)
        return place if kept is None else int(kept[place])

    def _penalized(self, logits: Logits) -> Logits:
        if self._seen is None:
            return logits
        return penalized(logits, self._seen, self._rules.repetition_penalty)


def penalized(logits: Logits, seen: NDArray[np.int64], penalty: float) -> Logits:
    """Divides positive logits of tokens that were seen, multiplies negative ones (arXiv 1909.05858, 4.1)."""
    if penalty == 1.0:
        return logits
    changed, before, factor = logits.copy(), logits[seen], np.float32(penalty)
    changed[seen] = np.where(before < 0, before * factor, before / factor)
    return changed


def logprob(logits: Logits, token: int) -> float:
    """Computes the log-probability of a token by softmax over all logits. [vocabulary]"""
    shifted = logits.astype(np.float64) - float(logits.max())
    return float(shifted[token] - np.log(np.exp(shifted).sum()))


def _chances(logits: NDArray[np.floating], largest: float, temperature: float) -> NDArray[np.float64]:
    """Computes how probable tokens are beside the likeliest one, which has 1."""
    with np.errstate(over="ignore"):  # by a temperature next to 0: what is not the likeliest is out
        chances: NDArray[np.float64] = np.exp((logits.astype(np.float64) - largest) / temperature)
    return chances


def _likeliest(logits: Logits, count: int) -> NDArray[np.int64]:
    """Finds the tokens of the `count` largest logits and of those that tie with the last, in their order.

    The largest of as many parts as are asked for, or more, are no larger: what is below them all need not be sorted.
    """
    width = len(logits) // (_PARTS * count)
    kept = np.arange(len(logits))
    if width > 1:
        largest = logits[: width * _PARTS * count].reshape(width, -1).max(axis=0)
        kept = np.flatnonzero(logits >= np.partition(largest, -count)[-count])
    values = logits[kept]
    likeliest: NDArray[np.int64] = kept[values >= np.partition(values, -count)[-count]]
    return likeliest


def _least_of_nucleus(chances: NDArray[np.float64], top_p: float) -> float:
    """Finds the smallest chance among the likeliest that have `top_p` of all together (arXiv 1904.09751)."""
    needed, count = top_p * float(chances.sum()), 64
    while True:
        count = min(count, len(chances))
        likeliest = -np.sort(-np.partition(chances, -count)[-count:])
        sums = np.cumsum(likeliest)
        if sums[-1] >= needed or count == len(chances):
            return float(likeliest[min(int(np.searchsorted(sums, needed)), count - 1)])
        count *= 8
