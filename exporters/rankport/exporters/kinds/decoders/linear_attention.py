"""Linear attention of items that go on from the states of their prefixes, without a copy of a state for each item.

The gated (delta) rule is linear in the state S0 that it starts from and in its values. So a row of ONNX Runtime's
operator holds all items of a prefix one after another, each from a state of zeros on, and what S0 adds comes by two
products that all items share, with G the sum of the decays from an item's start on:

    values of the operator    v - exp(G) k S0      (of the delta rule; else v)
    result                    its result + scale exp(G) q S0
    state after a prefix      its state + exp(G) S0
"""

import torch
from torch import Tensor

from rankport.exporters.graphs.recurrences import States, linear_attention
from rankport.exporters.kinds.decoders.packed_attention import PackedPrefix

_ZERO = -1e4
"""Logarithm of a decay that leaves nothing."""


def attend_linearly(
    shared: PackedPrefix, states: States, decay: Tensor, beta: Tensor | None, past: Tensor, *, scale: float
) -> tuple[Tensor, Tensor]:
    """Attends from the state of each prefix on, past [prefixes, heads, key width, value width].

    states: query, key and value [1, tokens, heads, width]; decay (a logarithm) and beta [1, tokens, heads]; None: no
    delta rule. Gives [1, tokens, heads, value width], and the state after each prefix where its one item is the
    prefix's own.
    """
    prefixes, items, length = shared.slots.shape
    heads, value_width = past.shape[1], past.shape[3]

    def by_prefix(rows: Tensor) -> Tensor:
        """[prefixes, items * length, heads, width]"""
        return rows.reshape(prefixes, items * length, heads, -1)

    # Where there is no token the state stays: nothing decays, and nothing is added.
    gates = shared.item_gates(decay)
    sums = gates.cumsum(1)
    left = by_prefix(sums.exp())

    def read(rows: Tensor) -> Tensor:
        return (rows.transpose(1, 2) @ past).transpose(1, 2) * left

    query, key = (by_prefix(shared.item_rows(part.flatten(2))) for part in states[:2])
    values = states[2].flatten(2)
    if beta is None:
        value, betas = by_prefix(shared.item_gates(values)), None
    else:
        value = by_prefix(shared.item_rows(values)) - read(key)
        betas = by_prefix(shared.item_gates(beta)).flatten(2)
    begins = (torch.arange(length) == 0)[:, None]
    decays = by_prefix(torch.where(begins, _ZERO, gates)).flatten(2)
    own, state = linear_attention((query, key, value), decays, betas, scale=scale)
    mixed = own + read(query) * scale
    at_end = shared.first_items(sums)[:, -1].exp()[..., None, None]
    packed = shared.item_tokens(mixed.reshape(prefixes * items, length, heads * value_width))
    return packed.reshape(1, -1, heads, value_width), state + at_end * past
