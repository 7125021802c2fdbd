"""Training batches in which a whole list shares one row: prefix, then (item token, end token) per item.

Owns the mask and the positions that make a packed row equal to its full sequences, one item each.
"""

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Rows of prefix (padded to `prefix_length`) and items."""

    ids: torch.Tensor  # [batch, length], pad where an item token stands
    item_tokens: torch.Tensor  # [batch, items, hidden]
    positions: torch.Tensor  # [batch, length]; every item starts where its own prefix ends
    mask: torch.Tensor  # [batch, 1, length, length], True where a token attends
    prefix_length: int


def pack(prefixes: list[list[int]], item_tokens: torch.Tensor, end_id: int, pad_id: int) -> PackedBatch:
    """Packs prefixes [batch] of any lengths with their items' tokens [batch, items, hidden]."""
    batch, count, _ = item_tokens.shape
    lengths = torch.tensor([len(prefix) for prefix in prefixes])
    prefix_length = int(lengths.max())
    ids = torch.full((batch, prefix_length + 2 * count), pad_id)
    for row, prefix in enumerate(prefixes):
        ids[row, : len(prefix)] = torch.tensor(prefix)
    ids[:, prefix_length + 1 :: 2] = end_id
    item_positions = lengths[:, None] + torch.tensor([0, 1]).repeat(count)
    positions = torch.cat([torch.arange(prefix_length).expand(batch, -1), item_positions], 1)
    return PackedBatch(ids, item_tokens, positions, _mask(lengths, prefix_length, count), prefix_length)


def _mask(lengths: torch.Tensor, prefix_length: int, count: int) -> torch.Tensor:
    length = prefix_length + 2 * count
    owner = torch.cat([torch.full((prefix_length,), -1), torch.arange(count).repeat_interleave(2)])
    in_prefix = owner == -1
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    visible = causal & ((owner[:, None] == owner[None, :]) | in_prefix[None, :])
    is_pad = in_prefix & (torch.arange(length) >= lengths[:, None])  # [batch, length]
    hidden = is_pad[:, None, :] & ~is_pad[:, :, None]  # pads see one another: no row of the softmax is empty
    return (visible & ~hidden)[:, None]


def logit_gaps(model: Any, batch: PackedBatch, label_ids: tuple[int, int]) -> torch.Tensor:
    """Logit of the first label minus the second's after each item's end token. [batch, items]"""
    embeddings = model.get_input_embeddings()(batch.ids)
    places = torch.arange(batch.prefix_length, batch.ids.shape[1], 2)
    hidden = model.model(
        inputs_embeds=embeddings.index_copy(1, places, batch.item_tokens),
        attention_mask=batch.mask,
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    first, second = model.get_output_embeddings().weight[list(label_ids)]
    gaps: torch.Tensor = hidden[:, places + 1] @ (first - second)
    return gaps
