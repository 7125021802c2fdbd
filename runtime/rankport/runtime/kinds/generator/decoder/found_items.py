"""Items whose sequences a search found."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.kinds.generator.decoder.searches import Found
from rankport.runtime.kinds.generator.tries.trie import TokenTrie


@dataclass(frozen=True, slots=True)
class FoundItems:
    """Items that a search found, the likeliest first."""

    keys: tuple[str, ...]  # [found]
    tokens: NDArray[np.int64]  # [found, levels]
    scores: NDArray[np.float64]  # [found] sums of log-probabilities
    prompt_tokens_cached: int
    prompt_tokens_computed: int
    queue_s: float
    compute_s: float


def found_items(trie: TokenTrie, top_k: int, found: Found) -> FoundItems:
    """Lists the first items of the sequences that a search found. Raises `StoreError` as `TokenTrie.check`."""
    trie.check()
    keys, rows = list[str](), list[int]()
    for row, leaf in enumerate(found.leaves.tolist()):
        for key in trie.keys_of(leaf)[: top_k - len(keys)]:
            keys.append(key)
            rows.append(row)
        if len(keys) == top_k:
            break
    trie.check()  # what was written meanwhile may be among them
    return FoundItems(
        keys=tuple(keys),
        tokens=found.tokens[rows],
        scores=found.scores[rows],
        prompt_tokens_cached=found.prompt_tokens_cached,
        prompt_tokens_computed=found.prompt_tokens_computed,
        queue_s=found.queue_s,
        compute_s=found.compute_s,
    )
