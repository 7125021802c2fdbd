"""`Beams`: the likeliest sequences of a trie, a level a pass. Plain arrays; knows no engine.

Scores are sums of log-probabilities by the softmax over the whole vocabulary: those that the model gives a sequence,
with nothing shared out among the sequences that there are. With as many beams as a level has nodes the answer is exact.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.kinds.generator.tries.trie import TokenTrie


@dataclass(frozen=True, slots=True)
class Children:
    """Tokens that may come next, at one level of a trie."""

    parents: NDArray[np.int64]  # [children] beam that each is behind
    nodes: NDArray[np.int64]  # [children]
    tokens: NDArray[np.int64]  # [children]


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

    def children(self) -> Children:
        """Lists what may come next. Raises `StoreError` as `TokenTrie.check`."""
        parents, nodes = self.trie.below(self.level, self.nodes)
        return Children(parents, nodes, self.trie.tokens[self.level][nodes].astype(np.int64))

    def extend(self, children: Children, log_probabilities: NDArray[np.float64]) -> None:
        """Goes on by one token, given the log-probability of each that may come next. [children]"""
        parents, nodes, tokens = children.parents, children.nodes, children.tokens
        scores = self.scores[parents] + log_probabilities
        if len(scores) > self.width:
            kept = scores >= np.partition(scores, -self.width)[-self.width]
            parents, nodes, tokens, scores = parents[kept], nodes[kept], tokens[kept], scores[kept]
        order = np.lexsort((nodes, -scores))[: self.width]  # ties: the smaller sequence
        self.nodes, self.scores = nodes[order], scores[order]
        self.tokens = np.column_stack([self.tokens[parents[order]], tokens[order]])
        self.level += 1
