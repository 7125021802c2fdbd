"""`Beams`: the likeliest sequences of a trie, a level a pass. Plain arrays; knows no engine.

Scores are sums of log-probabilities by the softmax over the whole vocabulary: those that the model gives a sequence,
with nothing shared out among the sequences that there are. With as many beams as a level has nodes the answer is exact.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.kinds.generator.tries.trie import TokenTrie


@dataclass(slots=True, eq=False)
class Beams:
    """Sequences that a search goes on with, the likeliest first."""

    trie: TokenTrie
    width: int  # at most
    level: int = 0  # tokens of each so far
    nodes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))  # [beams]
    scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))  # [beams]
    tokens: NDArray[np.int64] = field(default_factory=lambda: np.zeros((1, 0), np.int64))  # [beams, level]

    @property
    def complete(self) -> bool:
        """True when they are whole sequences."""
        return self.level == self.trie.levels

    def extend(self, logits: NDArray[np.float32]) -> None:
        """Goes on by one token, given the logits behind each. [beams, vocabulary]"""
        parents, nodes = self.trie.below(self.level, self.nodes)
        tokens = self.trie.tokens[self.level][nodes]
        scores = self.scores[parents] + logits[parents, tokens] - log_sums(logits)[parents]
        if len(scores) > self.width:
            kept = scores >= np.partition(scores, -self.width)[-self.width]
            parents, nodes, tokens, scores = parents[kept], nodes[kept], tokens[kept], scores[kept]
        order = np.lexsort((nodes, -scores))[: self.width]  # ties: the smaller sequence
        self.nodes, self.scores = nodes[order], scores[order]
        self.tokens = np.column_stack([self.tokens[parents[order]], tokens[order]])
        self.level += 1


def log_sums(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Computes log of the sum of exp of each row. [rows]"""
    most = logits.max(axis=1, keepdims=True)
    sums = np.exp(logits - most).sum(axis=1, dtype=np.float64)
    result: NDArray[np.float64] = np.log(sums) + most[:, 0]
    return result
