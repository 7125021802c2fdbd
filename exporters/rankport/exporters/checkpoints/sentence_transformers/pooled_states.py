"""Poolings of hidden states, as one differentiable module without branches on its input."""

import torch
from torch import Tensor, nn

from rankport.runtime.bundle.manifest import Embedding, Pooling

_LEAST = 1e-9  # of a divisor: an item of skipped tokens alone has the mean 0


class PooledStates(nn.Module):
    """(hidden [items, tokens, width], mask [items, tokens], padded at the end) -> [items, k, width * poolings].

    Over an item's n real tokens h, less the first `skip_tokens` (its prompt), at their places p from 1 on:
        last-k         h[n - k], ..., h[n - 1]; an item shorter than k repeats h[0] at the front
        cls            the first
        mean           sum(h) / count
        mean-sqrt-len  sum(h) / sqrt(count)
        weighted-mean  sum(p h) / sum(p), p counted with the skipped tokens
        max            the largest of each value
    """

    def __init__(self, embedding: Embedding) -> None:
        super().__init__()
        self.poolings = embedding.poolings
        self.tokens = embedding.tokens
        self.skipped = embedding.skip_tokens

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Pools padded texts."""
        seen = mask
        if self.skipped:
            seen = mask * (torch.arange(mask.shape[1]) >= self.skipped)
        states = [self._pool(pooling, hidden, mask, seen) for pooling in self.poolings]
        return states[0] if len(states) == 1 else torch.cat(states, dim=-1)

    def _pool(self, pooling: Pooling, hidden: Tensor, mask: Tensor, seen: Tensor) -> Tensor:
        if pooling == "cls":
            return self._first(hidden, mask)
        if pooling == "last-k":
            return self._last(hidden, mask, seen)
        if pooling == "max":
            return hidden.masked_fill(seen[:, :, None] == 0, float("-inf")).amax(dim=1, keepdim=True)
        weights = seen.to(hidden.dtype)[:, None, :]
        if pooling == "weighted-mean":
            weights = weights * torch.arange(1, mask.shape[1] + 1).to(hidden.dtype)
        total = weights.sum(dim=-1, keepdim=True)
        if self.skipped:
            total = total.clamp(min=_LEAST)
        return (weights @ hidden) / (total.sqrt() if pooling == "mean-sqrt-len" else total)

    def _first(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Takes the first token that is not skipped; of an item of skipped ones alone, the first."""
        if not self.skipped:
            return hidden[:, :1]
        index = (mask.sum(dim=1, keepdim=True) > self.skipped).to(torch.int64) * self.skipped
        return _rows(hidden, index)

    def _last(self, hidden: Tensor, mask: Tensor, seen: Tensor) -> Tensor:
        lengths = mask.sum(dim=1, keepdim=True)
        index = (lengths - self.tokens + torch.arange(self.tokens)).clamp(min=0)
        return _rows(hidden * seen[:, :, None].to(hidden.dtype) if self.skipped else hidden, index)


def _rows(hidden: Tensor, index: Tensor) -> Tensor:
    """Takes rows `index` [items, k] of each item."""
    return torch.gather(hidden, 1, index[:, :, None].expand(-1, -1, hidden.shape[-1]))
