"""Attention of events and candidates: over a past, and over what is new. With softmax (LiGR) or without (HSTU).

Tensors without a batch: rows are events or candidates of one user.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Past:
    """Keys and values of a history in one layer, with the bias of how far they are from who looks at them."""

    keys: Tensor  # [heads, past, head_dim]
    values: Tensor  # [heads, past, head_dim]
    bias: Tensor  # [heads, rows or 1, past]


@dataclass(frozen=True, slots=True)
class Peers:
    """Rows that are computed together: who sees whom among them. Every row sees itself."""

    mask: Tensor | None  # [rows, rows] bool; None: each sees itself alone
    bias: Tensor  # [heads, rows or 1, rows or 1]


class RelativeBias(nn.Module):
    """Bias of attention by distance in places and in time, a number a head: of none, zeros.

    A distance in time has the place floor(log2(seconds + 1/2)) + 1, so that equal times have the place 0.
    """

    def __init__(self, heads: int, positions: int, time_buckets: int) -> None:
        super().__init__()
        self.heads, self.positions, self.time_buckets = heads, positions, time_buckets
        self.by_position = nn.Parameter(torch.zeros(positions, heads)) if positions else None
        self.by_time = nn.Parameter(torch.zeros(time_buckets, heads)) if time_buckets else None

    def forward(self, distance: Tensor, seconds: Tensor) -> Tensor:
        """Looks up the bias of distances in places and in seconds, of one shape [rows, seen]. [heads, rows, seen]"""
        bias = torch.zeros(1, 1, 1)
        if self.by_position is not None:
            bias = bias + self.by_position[distance.clamp(max=self.positions - 1)].permute(2, 0, 1)
        if self.by_time is not None:
            # In double: float32 would round seconds of years over the edge of a bucket.
            place = torch.log2(seconds.abs().double() + 0.5).floor().long() + 1
            bias = bias + self.by_time[place.clamp(0, self.time_buckets - 1)].permute(2, 0, 1)
        return bias


def softmax_attention(query: Tensor, key: Tensor, value: Tensor, past: Past, peers: Peers) -> Tensor:
    """Attends with softmax over all that is seen, scores divided by sqrt(head_dim). [heads, rows, head_dim]"""
    scale = 1 / math.sqrt(query.shape[-1])
    behind = query @ past.keys.transpose(1, 2) * scale + past.bias
    beside = _peer_scores(query, key, peers, scale)
    if peers.mask is not None:
        beside = beside.masked_fill(~peers.mask, float("-inf"))
    weights = torch.softmax(torch.cat([behind, beside], dim=2), dim=2)
    count = past.keys.shape[1]
    return weights[:, :, :count] @ past.values + _peer_values(weights[:, :, count:], value, peers)


def pointwise_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past: Past,
    peers: Peers,
    length: float | None,
    *,
    scaled: bool,
) -> Tensor:
    """Attends with SiLU of scores and bias, over `length` or the rows that are seen. [heads, rows, head_dim]

    `scaled`: scores are divided by sqrt(head_dim).
    """
    scale = 1 / math.sqrt(query.shape[-1]) if scaled else 1.0
    behind = F.silu(query @ past.keys.transpose(1, 2) * scale + past.bias)
    beside = F.silu(_peer_scores(query, key, peers, scale))
    count = past.keys.shape[1]
    # Counted where rows are: a size is known to the host alone, and a recorded pass asks it nothing. A sum of ones
    # would not do, for CUDA refuses one of none.
    seen = torch.arange(count + 1)[count:]
    if peers.mask is None:
        seen = seen + 1
    else:
        beside = beside * peers.mask
        seen = seen + peers.mask.sum(dim=1, keepdim=True)
    total = behind @ past.values + _peer_values(beside, value, peers)
    return total / (seen if length is None else length)


def _peer_scores(query: Tensor, key: Tensor, peers: Peers, scale: float) -> Tensor:
    """Scores rows among themselves, or each with itself. [heads, rows, rows or 1]"""
    if peers.mask is None:
        return (query * key).sum(dim=2, keepdim=True) * scale + peers.bias
    return query @ key.transpose(1, 2) * scale + peers.bias


def _peer_values(weights: Tensor, value: Tensor, peers: Peers) -> Tensor:
    return weights * value if peers.mask is None else weights @ value
