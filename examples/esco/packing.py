"""Training batches in which a whole list shares one row: prefix, then one token per item.

Owns the mask and the positions that make a packed row equal to its full sequences, one item each.
"""

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Rows of prefix (padded to `prefix_length`) and items."""

    ids: torch.Tensor  # [batch, prefix_length]
    item_tokens: torch.Tensor  # [batch, items, hidden]
    positions: torch.Tensor  # [batch, length]; every item stands where its own prefix ends
    mask: torch.Tensor  # [batch, 1, length, length], 0 where a token attends, else very negative
    prefix_length: int


def pack(prefixes: list[list[int]], item_tokens: torch.Tensor, pad_id: int) -> PackedBatch:
    """Packs prefixes [batch] of any lengths with their items' tokens [batch, items, hidden]."""
    count = item_tokens.shape[1]
    ids, lengths = pad_right(prefixes, pad_id)
    prefix_length = ids.shape[1]
    before = torch.arange(prefix_length).expand(len(prefixes), -1)
    positions = torch.cat([before, lengths[:, None].expand(-1, count)], 1)
    return PackedBatch(ids, item_tokens, positions, _mask(lengths, prefix_length, count), prefix_length)


def pad_right(runs: list[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids [batch, longest] and lengths [batch]."""
    rows = [torch.tensor(run) for run in runs]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)
    return padded, torch.tensor([len(run) for run in runs])


def _mask(lengths: torch.Tensor, prefix_length: int, count: int) -> torch.Tensor:
    length = prefix_length + count
    in_prefix = torch.arange(length) < prefix_length
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    visible = causal & (torch.eye(length, dtype=torch.bool) | in_prefix[None, :])
    is_pad = in_prefix & (torch.arange(length) >= lengths[:, None])  # [batch, length]
    hidden = is_pad[:, None, :] & ~is_pad[:, :, None]  # pads see one another: no row of the softmax is empty
    return torch.zeros(()).masked_fill(~(visible & ~hidden), -1e4)[:, None]


def logit_gaps(model: Any, batch: PackedBatch, label_ids: tuple[int, int]) -> torch.Tensor:
    """Logit of the first label minus the second's after each item. [batch, items]"""
    embeddings = torch.cat([model.get_input_embeddings()(batch.ids), batch.item_tokens], 1)
    hidden = model.model(
        inputs_embeds=embeddings,
        attention_mask=batch.mask,
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    first, second = model.get_output_embeddings().weight[list(label_ids)]
    gaps: torch.Tensor = hidden[:, batch.prefix_length :].float() @ (first - second)
    return gaps
