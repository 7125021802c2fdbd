"""`Adjustments`: what a request changes of logits before a token is chosen of them. Owns its order, which is vLLM's.

Ends that may not come yet are left out; biases are added; then the penalties of repetition (over prompt and text), of
frequency and of presence (over the text alone).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest

Logits = NDArray[np.float32]
_Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustmentRules:
    """Changes of a text's logits with nothing left open; none by default."""

    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()  # of tokens
    min_tokens: int = 0  # before one of `end_ids`
    end_ids: tuple[int, ...] = ()


class Adjustments:
    """Changes of one text's logits, which go by its tokens so far."""

    def __init__(self, rules: AdjustmentRules, prompt: Sequence[int]) -> None:
        self._rules = rules
        self._seen = np.unique(np.asarray(prompt, np.int64)) if rules.repetition_penalty != 1.0 else None
        self._biased = np.array([token for token, _ in rules.logit_bias], np.int64)
        self._biases = np.array([bias for _, bias in rules.logit_bias], np.float32)
        self._raised = self._biased[self._biases > 0]
        self._ends = np.array(rules.end_ids, np.int64)
        self._counts_tokens = bool(rules.presence_penalty or rules.frequency_penalty)
        self._counts = Counter[int]()
        self._written = 0

    @property
    def may_raise_any(self) -> bool:
        """True where a token's logit may become larger by what was written, whichever it is."""
        rules = self._rules
        return rules.repetition_penalty < 1 or rules.presence_penalty < 0 or rules.frequency_penalty < 0

    def raises_others(self, tokens: _Ids) -> bool:
        """Says whether the logit of a token that is not among these, ascending, is made larger by a bias."""
        return len(_places(self._raised, tokens)[0]) < len(self._raised)

    def apply(self, logits: Logits, tokens: _Ids | None = None) -> Logits:
        """Changes the logits of the whole vocabulary, or of some tokens, ascending; those given stay. [tokens]

        Raises `InvalidRequest` where no token of the whole vocabulary is left.
        """
        rules, bars = self._rules, self._written < self._rules.min_tokens and len(self._ends) > 0
        if not (bars or len(self._biased) or self._seen is not None or self._counts):
            return logits
        changed = logits.copy()
        if bars:
            changed[_places(self._ends, tokens)[0]] = -np.inf
            if tokens is None and np.isneginf(changed.max()):
                raise InvalidRequest(
                    f"min_tokens is {rules.min_tokens}, and nothing but an end may be token {self._written}: "
                    "allow fewer"
                )
        places, there = _places(self._biased, tokens)
        changed[places] += self._biases[there]
        if self._seen is not None:
            _penalize(changed, _places(self._seen, tokens)[0], rules.repetition_penalty)
        if self._counts:
            ids = np.fromiter(self._counts, np.int64, len(self._counts))
            counts = np.fromiter(self._counts.values(), np.float32, len(ids))
            places, there = _places(ids, tokens)
            changed[places] -= np.float32(rules.frequency_penalty) * counts[there]
            changed[places] -= np.float32(rules.presence_penalty)
        return changed

    def take(self, token: int) -> None:
        """Goes on by a token of the text."""
        self._written += 1
        if self._seen is not None:
            self._seen = np.union1d(self._seen, token)
        if self._counts_tokens:
            self._counts[token] += 1


def penalized(logits: Logits, seen: NDArray[np.int64], penalty: float) -> Logits:
    """Divides positive logits of tokens that were seen, multiplies negative ones (arXiv 1909.05858, 4.1)."""
    if penalty == 1.0:
        return logits
    changed = logits.copy()
    _penalize(changed, seen, penalty)
    return changed


def _penalize(logits: Logits, seen: _Ids, penalty: float) -> None:
    before, factor = logits[seen], np.float32(penalty)
    logits[seen] = np.where(before < 0, before * factor, before / factor)


def _places(ids: _Ids, tokens: _Ids | None) -> tuple[_Ids, _Ids]:
    """Finds ids among tokens, ascending, or the whole vocabulary: the places of those there are, and which they are."""
    if tokens is None:
        return ids, np.arange(len(ids))
    places = np.searchsorted(tokens, ids)
    there = np.flatnonzero(tokens[np.minimum(places, len(tokens) - 1)] == ids)
    return places[there], there
