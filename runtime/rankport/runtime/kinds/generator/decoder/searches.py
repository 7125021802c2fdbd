"""Searches on their way through an engine: the likeliest sequences of a trie behind a prompt."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BackendError, StoreError
from rankport.runtime.kinds.generator.decoder.beams import Beams, Children
from rankport.runtime.scheduling.passes.prefixes import TokenPrefixRequest
from rankport.runtime.tokens import TokenRuns


@dataclass(frozen=True, slots=True)
class Found:
    """Sequences that were found, the likeliest first."""

    leaves: NDArray[np.int64]  # [found] of the trie
    tokens: NDArray[np.int64]  # [found, levels]
    scores: NDArray[np.float64]  # [found] sums of log-probabilities
    prompt_tokens_cached: int
    prompt_tokens_computed: int
    queue_s: float
    compute_s: float


@dataclass(slots=True, eq=False, kw_only=True)
class SearchRequest(TokenPrefixRequest):
    """A search that is under way. Its beams share the prompt's KV, and each computes its own few tokens anew."""

    last_token: int  # of the prompt, which every beam begins with
    beams: Beams
    failure: BackendError | StoreError | None = None

    @property
    def exhausted(self) -> bool:
        return self.finished

    @property
    def finished(self) -> bool:
        return self.beams.complete or self.failure is not None

    @property
    def next_tokens(self) -> int:
        """Counts the tokens of its next pass."""
        return len(self.beams.nodes) * (1 + self.beams.level)

    def runs(self) -> TokenRuns:
        """Gives the tokens behind the prompt of each beam. [beams]"""
        count = len(self.beams.nodes)
        rows = np.column_stack([np.full(count, self.last_token), self.beams.tokens])
        return TokenRuns.of_lengths(rows.reshape(-1).astype(np.int64), [rows.shape[1]] * count)

    def children(self) -> Children | None:
        """Lists the tokens that may come next; None where the trie is gone, which ends the search."""
        try:
            return self.beams.children()
        except StoreError as error:
            self.failure = error
            return None

    def take(self, children: Children, log_probabilities: NDArray[np.float64]) -> None:
        """Goes on by one level. [children]"""
        if not np.isfinite(log_probabilities).all():
            self.failure = BackendError(
                f"the device gave a logit that is not finite, at token {self.beams.level} of the sequences"
            )
            return
        self.beams.extend(children, log_probabilities)

    def answer(self, waited_s: float) -> Found:
        if self.failure is not None:
            raise self.failure
        return Found(
            leaves=self.beams.nodes,
            tokens=self.beams.tokens,
            scores=self.beams.scores,
            prompt_tokens_cached=self.prefix_tokens_cached,
            prompt_tokens_computed=self.prefix_tokens_computed + 1,  # the last one is in every beam
            queue_s=waited_s,
            compute_s=self.compute_s,
        )
