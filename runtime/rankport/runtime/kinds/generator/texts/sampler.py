"""`Sampler`: the next token of one text by its logits. Owns the rules of the draw, in the order of transformers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.generation import Sampling
from rankport.runtime.bundle.manifest import Generation
from rankport.runtime.kinds.generator.texts.adjustments import AdjustmentRules, Adjustments, Logits

_PARTS = 16  # for each of the likeliest tokens that are asked for


@dataclass(frozen=True, slots=True)
class SamplingRules:
    """Rules with nothing left open."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    adjusted: AdjustmentRules

    @classmethod
    def of(
        cls, sampling: Sampling, defaults: Generation, end_ids: Sequence[int] = (), min_tokens: int = 0
    ) -> "SamplingRules":
        """Takes what a request says, and the bundle's word for the rest; no end before `min_tokens`."""
        temperature, top_p, top_k, min_p, repetition_penalty = (
            getattr(defaults, name) if getattr(sampling, name) is None else getattr(sampling, name)
            for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        )
        adjusted = AdjustmentRules(
            repetition_penalty=repetition_penalty,
            presence_penalty=float(sampling.presence_penalty or 0.0),
            frequency_penalty=float(sampling.frequency_penalty or 0.0),
            logit_bias=tuple(sampling.logit_bias),  # type: ignore[arg-type]  # pairs by now
            min_tokens=min_tokens,
            end_ids=tuple(end_ids),
        )
        return cls(temperature, top_p, top_k, min_p, adjusted)


class Sampler:
    """Draws the tokens of one text, the same ones for the same seed whatever shares its passes."""

    def __init__(self, rules: SamplingRules, seed: int | None, prompt: Sequence[int]) -> None:
        self._rules = rules
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._adjustments = Adjustments(rules.adjusted, prompt)

    def draw(self, logits: Logits) -> int:
        """Draws the next token. logits [vocabulary], which are not changed.

        Raises `InvalidRequest` where the rules of the text leave none.
        """
        token = self._drawn(self._adjustments.apply(logits))
        self._adjustments.take(token)
        return token

    @property
    def needs_all(self) -> bool:
        """True where the likeliest tokens are never enough to draw of."""
        rules = self._rules
        draws_of_all = rules.temperature != 0 and not rules.top_k and (not rules.min_p or rules.top_p < 1)
        return draws_of_all or self._adjustments.may_raise_any

    def draw_likeliest(self, tokens: NDArray[np.int64], logits: Logits, bound: float) -> int | None:
        """Draws what `draw` would, given the likeliest tokens and their logits, in any order. [likeliest] each

        `bound`: no other logit is above it. None where another token may come in: then nothing is drawn.
        """
        order = np.argsort(tokens)
        known = tokens[order]
        values = self._adjustments.apply(logits[order], known)
        if self._adjustments.raises_others(known) or not self._are_enough(values, bound):
            return None
        token = int(known[self._drawn(values)])
        self._adjustments.take(token)
        return token

    def _are_enough(self, values: Logits, bound: float) -> bool:
        """Says whether all others, of logits up to a bound, are out, given those of the likeliest as adjusted."""
        rules, count, most = self._rules, self._rules.top_k, float(values.max())
        if rules.temperature == 0 or not np.isfinite(most):
            return most > bound
        if not count:
            return bool(_chances(np.array([bound]), most, rules.temperature)[0] < rules.min_p)
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


def logprobs(logits: Logits, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Computes the log-probabilities of tokens by softmax over all logits. [vocabulary], [tokens]"""
    shifted = logits.astype(np.float64) - float(logits.max())
    chances: NDArray[np.float64] = shifted[tokens] - np.log(np.exp(shifted).sum())
    return chances


def likeliest_tokens(logits: Logits, count: int) -> NDArray[np.int64]:
    """Finds the tokens of the `count` largest logits, the largest first; of equal ones the lower token. [count]"""
    tokens = _likeliest(logits, count) if count < len(logits) else np.arange(len(logits))
    order: NDArray[np.int64] = tokens[np.argsort(-logits[tokens], kind="stable")][:count]
    return order


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
