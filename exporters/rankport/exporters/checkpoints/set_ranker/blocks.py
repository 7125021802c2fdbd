"""Blocks of a ranker of sets: LiGR's gated residuals (arXiv 2502.03417) and HSTU (arXiv 2402.17152)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankport.exporters.checkpoints.set_ranker.attention import (
    Past,
    Peers,
    RelativeBias,
    pointwise_attention,
    softmax_attention,
)
from rankport.exporters.checkpoints.set_ranker.config import SetRankerConfig

State = tuple[Tensor, Tensor]
"""Keys and values of new rows. [heads, rows, head_dim] each"""


class SetBlock(nn.Module):
    """Block with a relative bias: rows [rows, hidden] to rows, given what is behind and beside them."""

    def __init__(self, config: SetRankerConfig) -> None:
        super().__init__()
        self.heads = config.attention_heads
        self.bias = RelativeBias(self.heads, config.positions, config.time_buckets)

    def split(self, rows: Tensor) -> Tensor:
        """Splits rows into heads. [heads, rows, head_dim]"""
        return rows.view(rows.shape[0], self.heads, rows.shape[1] // self.heads).transpose(0, 1)

    def joined(self, heads: Tensor) -> Tensor:
        """Joins heads to rows. [rows, hidden]"""
        return heads.transpose(0, 1).flatten(1)


class LigrBlock(SetBlock):
    """x += sigmoid(W1 x) * MHA(LN(x)); x += sigmoid(W2 x) * SwiGLU(LN(x)). A gate reads the residual as it is."""

    def __init__(self, config: SetRankerConfig) -> None:
        super().__init__(config)
        size, inner = config.hidden_size, config.hidden_size * config.ffn_multiple
        self.attention_norm = nn.LayerNorm(size, config.norm_epsilon)
        self.qkv = nn.Linear(size, 3 * size)
        self.out = nn.Linear(size, size)
        self.attention_gate = nn.Linear(size, size)
        self.ffn_norm = nn.LayerNorm(size, config.norm_epsilon)
        self.ffn_in = nn.Linear(size, 2 * inner)
        self.ffn_out = nn.Linear(inner, size)
        self.ffn_gate = nn.Linear(size, size)

    def forward(self, rows: Tensor, past: Past, peers: Peers) -> tuple[Tensor, State]:
        """Computes the block, and the keys and values of the rows."""
        query, key, value = map(self.split, self.qkv(self.attention_norm(rows)).chunk(3, dim=1))
        attended = self.out(self.joined(softmax_attention(query, key, value, past, peers)))
        rows = rows + torch.sigmoid(self.attention_gate(rows)) * attended
        gate, up = self.ffn_in(self.ffn_norm(rows)).chunk(2, dim=1)
        rows = rows + torch.sigmoid(self.ffn_gate(rows)) * self.ffn_out(F.silu(gate) * up)
        return rows, (key, value)


class HstuBlock(SetBlock):
    """U, V, Q, K = split(SiLU(W1 LN(x))); A = SiLU(s Q K^T + bias) / length; x += W2(LN(A V) * U).

    s is 1, or 1 / sqrt(head_dim) where the config says `attention_scaled`.
    """

    def __init__(self, config: SetRankerConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        self.length = config.attention_length
        self.scaled = config.attention_scaled
        self.norm = nn.LayerNorm(size, config.norm_epsilon)
        self.uvqk = nn.Linear(size, 4 * size)
        self.attended_norm = nn.LayerNorm(size, config.norm_epsilon)
        self.out = nn.Linear(size, size)

    def forward(self, rows: Tensor, past: Past, peers: Peers) -> tuple[Tensor, State]:
        """Computes the block, and the keys and values of the rows."""
        gate, *parts = F.silu(self.uvqk(self.norm(rows))).chunk(4, dim=1)
        value, query, key = map(self.split, parts)
        attended = pointwise_attention(query, key, value, past, peers, self.length, scaled=self.scaled)
        attended = self.joined(attended)
        return rows + self.out(self.attended_norm(attended) * gate), (key, value)


BLOCKS: dict[str, type[LigrBlock] | type[HstuBlock]] = {"ligr": LigrBlock, "hstu": HstuBlock}
