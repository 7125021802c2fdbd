"""`BeamSearch`: the likeliest texts, a token a step. Plain arrays; knows no engine.

As transformers' `generate` with `num_beams`: of a step's likeliest continuations those that end are set aside, the
others go on; a text's score is the sum of its tokens' log-probabilities over the number of its tokens, the end
included, to the power of `length_penalty` (arXiv 1609.08144, 7, without coverage, and a plain power).
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rankport.protos.generation import FinishReason
from rankport.runtime.kinds.generator.seq2seq.constraints import Constraints
from rankport.runtime.kinds.generator.texts.adjustments import Logits, penalized


@dataclass(frozen=True, slots=True)
class BeamRules:
    """Rules of a search with nothing left open."""

    width: int
    length_penalty: float
    early_stopping: bool | str
    repetition_penalty: float


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A whole text."""

    ids: tuple[int, ...]  # without the token that ended it
    score: float
    finish_reason: FinishReason


@dataclass(slots=True, eq=False)
class BeamSearch:
    """Texts that a search goes on with, the likeliest first, and those that are whole."""

    rules: BeamRules
    constraints: Constraints
    tokens: NDArray[np.int64] = field(init=False)  # [width, 1 + steps], that which all begin behind first
    scores: NDArray[np.float64] = field(init=False)  # [width] -inf: there is no such text
    parents: NDArray[np.int64] = field(init=False)  # [width] that each goes on from, of the step before
    whole: list[Hypothesis] = field(default_factory=list)  # the best first
    done: bool = False

    def __post_init__(self) -> None:
        width = self.rules.width
        self.tokens = np.full((width, 1), self.constraints.decoding.start_id, np.int64)
        self.scores = np.full(width, -np.inf)
        self.scores[0] = 0.0
        self.parents = np.arange(width)

    @property
    def steps(self) -> int:
        """Counts the tokens of each."""
        return int(self.tokens.shape[1]) - 1

    def extend(self, logits: Logits) -> None:
        """Goes on by one token, given the logits behind each. [width, vocabulary]"""
        beams, tokens, scores = self._continuations(logits)
        ends = np.isin(tokens, self.constraints.end_ids)
        last = self.steps + 1 == self.constraints.max_tokens
        for place in np.flatnonzero((ends | last)[: self.rules.width]).tolist():
            self._add(self.tokens[beams[place]], int(tokens[place]), scores[place], bool(ends[place]))
        on = np.flatnonzero(~ends)[: self.rules.width]
        self._go_on(beams[on], tokens[on], scores[on])
        self.done = last or not len(on) or self._is_settled()

    def _continuations(
        self, logits: Logits
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Finds the likeliest beams, with the token that each is followed by, and their scores, best first."""
        totals = np.stack([self._log_chances(place, row) for place, row in enumerate(logits)]).reshape(-1)
        most = max(2, 1 + len(self.constraints.end_ids)) * self.rules.width
        least = np.partition(totals, -most)[-most] if most < len(totals) else -np.inf
        likeliest = np.flatnonzero((totals >= least) & np.isfinite(totals))
        order = likeliest[np.argsort(-totals[likeliest], kind="stable")][:most]  # ties: the smaller token
        beams, tokens = np.divmod(order, logits.shape[1])
        return beams, tokens, totals[order]

    def _log_chances(self, place: int, logits: Logits) -> NDArray[np.float64]:
        """Gives the scores of one beam by its next token. [vocabulary]"""
        if np.isneginf(self.scores[place]):
            return np.full(len(logits), -np.inf)
        shifted = logits.astype(np.float64) - float(logits.max())
        chances = (shifted - np.log(np.exp(shifted).sum())).astype(np.float32)
        ids = self.tokens[place]
        chances = penalized(chances, np.unique(ids), self.rules.repetition_penalty)
        left = self.constraints.apply(chances, ids.tolist())
        total: NDArray[np.float64] = left.astype(np.float64) + self.scores[place]
        return total

    def _add(self, before: NDArray[np.int64], token: int, score: float, ended: bool) -> None:
        ids = before[1:].tolist()
        reason: FinishReason = "stop" if ended else "length"
        scored = score / (len(ids) + 1) ** self.rules.length_penalty
        self.whole.append(Hypothesis(tuple(ids if ended else [*ids, token]), float(scored), reason))
        self.whole.sort(key=lambda text: -text.score)
        del self.whole[self.rules.width :]

    def _go_on(
        self, beams: NDArray[np.int64], tokens: NDArray[np.int64], scores: NDArray[np.float64]
    ) -> None:
        """Takes these as the texts that go on, filled up with such as there are not."""
        missing = self.rules.width - len(beams)
        self.parents = np.pad(beams, (0, missing))
        self.tokens = np.column_stack([self.tokens[self.parents], np.pad(tokens, (0, missing))])
        self.scores = np.pad(scores, (0, missing), constant_values=-np.inf)

    def _is_settled(self) -> bool:
        """Says whether none that goes on is thought to become better than what is whole."""
        rules = self.rules
        if len(self.whole) < rules.width:
            return False
        if rules.early_stopping is True:
            return True
        longest = rules.early_stopping == "never" and rules.length_penalty > 0
        tokens = self.constraints.max_tokens if longest else self.steps
        return bool(self.scores[0] / tokens**rules.length_penalty <= self.whole[-1].score)
