"""Items on their way through an engine that writes: how likely each is as the text behind a prompt.

The score of an item is the sum of log-probabilities of its tokens, each by the softmax over the whole vocabulary, and
with ends that of any of them behind the last token: what the model gives the whole text. Without ends it is that of all
texts that begin so. Items share the prompt's KV, and all their tokens are one pass.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.scheduling.passes.prefixes import TokenPrefixRequest
from rankport.runtime.scheduling.runs_by_length import RunsByLength
from rankport.runtime.softmax import log_sums
from rankport.runtime.tokens import TokenRuns


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """Scores of one request, in the order of its items."""

    scores: NDArray[np.float32]  # [items] log-probabilities, NaN where failed
    failed: NDArray[np.bool_]  # [items] the device gave a logit that is not finite
    prompt_tokens_cached: int
    prompt_tokens_computed: int
    queue_s: float
    compute_s: float


@dataclass(slots=True, eq=False, kw_only=True)
class LikelihoodRequest(TokenPrefixRequest):
    """Items that are being scored."""

    last_token: int  # of the prompt, which every item begins behind
    items: RunsByLength
    ends: NDArray[np.int64]  # tokens that end a text; none: the end is open

    @property
    def exhausted(self) -> bool:
        return self.items.exhausted

    @property
    def finished(self) -> bool:
        return self.items.finished

    def upcoming(self, count: int) -> TokenRuns:
        """Gives what is computed of the next items: the token before each of theirs, with ends their last too."""
        runs = self.items.upcoming(count).runs
        with_last = np.insert(runs.ids, runs.offsets[:-1], self.last_token)
        if len(self.ends):
            return TokenRuns.of_lengths(with_last, runs.lengths + 1)
        return TokenRuns.of_lengths(np.delete(with_last, runs.offsets[1:] + np.arange(count)), runs.lengths)

    def asked(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Lists the tokens whose log-probabilities make the scores of the next items: those of the items, then ends.

        For each: which token of `upcoming` it is behind, and the token. [asked] each
        """
        runs = self.items.upcoming(count).runs
        rows = np.arange(len(runs.ids))
        if not len(self.ends):
            return rows, runs.ids
        rows += np.repeat(np.arange(count), runs.lengths)
        last = runs.offsets[1:] + np.arange(count)
        ends = np.repeat(last, len(self.ends)), np.tile(self.ends, count)
        return np.concatenate([rows, ends[0]]), np.concatenate([runs.ids, ends[1]])

    def take(self, count: int, log_probabilities: NDArray[np.float64]) -> None:
        """Scores the next items, given the log-probabilities of what is `asked`."""
        span = self.items.upcoming(count)
        runs = span.runs
        own, ends = np.split(log_probabilities, [len(runs.ids)])
        scores = np.add.reduceat(own, runs.offsets[:-1])
        if len(ends):
            scores += log_sums(ends.reshape(count, -1))
        self.items.take(count)
        span.record(scores)

    def answer(self, waited_s: float) -> Likelihoods:
        scores = self.items.results().astype(np.float32)
        failed = ~np.isfinite(scores)
        scores[failed] = np.nan
        return Likelihoods(
            scores=scores,
            failed=failed,
            prompt_tokens_cached=self.prefix_tokens_cached,
            prompt_tokens_computed=self.prefix_tokens_computed + 1,  # the last one is in every item
            queue_s=waited_s,
            compute_s=self.compute_s,
        )
