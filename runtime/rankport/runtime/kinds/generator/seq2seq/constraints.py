"""`Constraints`: tokens that may come next by the rules of an encoder-decoder's text, as transformers has them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rankport.runtime.bundle.manifest import Decoding
from rankport.runtime.kinds.generator.texts.adjustments import Logits
from rankport.runtime.kinds.generator.texts.sampler import Sampler, SamplingRules


@dataclass(frozen=True, slots=True)
class Constraints:
    """Rules for one text, which they know by its tokens so far, the one it begins behind first."""

    decoding: Decoding
    end_ids: tuple[int, ...]
    max_tokens: int

    def apply(self, logits: Logits, ids: Sequence[int]) -> Logits:
        """Leaves tokens out, at -inf. logits [vocabulary], which are not changed; a sole token gets 0."""
        rules, written = self.decoding, len(ids) - 1
        if rules.last_id is not None and written == self.max_tokens - 1:
            return _sole(logits, rules.last_id)
        if rules.first_id is not None and not written:
            return _sole(logits, rules.first_id)
        banned = list(_repeating(ids, rules.no_repeat_ngram))
        if written < rules.min_tokens:
            banned += self.end_ids
        if not banned:
            return logits
        left = logits.copy()
        left[banned] = -np.inf
        return left


class ConstrainedSampler(Sampler):
    """A sampler of what the rules leave."""

    def __init__(self, rules: SamplingRules, seed: int | None, constraints: Constraints) -> None:
        start = constraints.decoding.start_id
        super().__init__(rules, seed, [start])
        self._constraints, self._ids = constraints, [start]

    def draw(self, logits: Logits) -> int:
        """See `Sampler.draw`."""
        token = super().draw(self._constraints.apply(logits, self._ids))
        self._ids.append(token)
        return token

    @property
    def needs_all(self) -> bool:
        return True


def _sole(logits: Logits, token: int) -> Logits:
    sole = np.full_like(logits, -np.inf)
    sole[token] = 0.0
    return sole


def _repeating(ids: Sequence[int], size: int) -> Iterable[int]:
    """Finds the tokens that would end a run of `size` tokens which there is already."""
    if not size or len(ids) < size:
        return ()
    begun = tuple(ids[len(ids) - size + 1 :])
    runs = (tuple(ids[place : place + size]) for place in range(len(ids) - size + 1))
    return {run[-1] for run in runs if run[:-1] == begun}
