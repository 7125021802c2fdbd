"""Linear attention of items that go on from the states of their prefixes, without a copy of a state for each item.

The gated (delta) rule is linear in the state S0 that it starts from and in its values. So a row of ONNX Runtime's
operator holds all items of a prefix one after another, each from a state of zeros on, and what S0 adds comes by two
products that all items share, with G the sum of the decays from an item's start on:

    values of the operator    v - exp(G) k S0      (of the delta rule; else v)
    result                    its result + scale exp(G) q S0
    state after a prefix      its state + exp(G) S0

Gated delta rule: arXiv 2412.06464, equation 10; without the delta it is Mamba 2's, arXiv 2405.21060.
"""

import torch
from torch import Tensor

from rankport.exporters.kinds.decoders.packed_attention import PackedPrefix

_ZERO = -1e4
"""Logarithm of a decay that leaves nothing."""

States = tuple[Tensor, Tensor, Tensor]  # query, key, value


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
    own, state = linear_attention(
        (query.flatten(2), key.flatten(2), value.flatten(2)),
        by_prefix(torch.where(begins, _ZERO, gates)).flatten(2),
        betas,
        shape=(prefixes, *past.shape[1:]),
        scale=scale,
    )
    mixed = by_prefix(own) + read(query) * scale
    at_end = shared.first_items(sums)[:, -1].exp()[..., None, None]
    packed = shared.item_tokens(mixed.reshape(prefixes * items, length, heads * value_width))
    return packed.reshape(1, -1, heads, value_width), state + at_end * past


def linear_attention(
    states: States, decay: Tensor, beta: Tensor | None, *, shape: tuple[int, ...], scale: float
) -> tuple[Tensor, Tensor]:
    """Computes ONNX Runtime's LinearAttention from zeros on, by that operator where a graph is traced.

    states [rows, tokens, heads * width]; decay and beta [rows, tokens, heads]; `shape` of the states (rows, heads, key
    width, value width). Gives [rows, tokens, heads * value width] and the states after the last token.
    """
    heads = shape[1]
    if torch.compiler.is_exporting():
        mixed, state = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::LinearAttention",
            [*states, None, decay, beta],
            {
                "q_num_heads": heads,
                "kv_num_heads": heads,
                "scale": scale,
                "update_rule": "gated" if beta is None else "gated_delta",
            },
            dtypes=(decay.dtype, decay.dtype),
            shapes=(states[2].shape, shape),
            version=1,
        )
        return mixed, state
    rows, tokens, _ = states[0].shape
    by_head = [part.reshape(rows, tokens, heads, -1) for part in states]
    state, mixed_tokens = decay.new_zeros(shape), []
    for token in range(tokens):
        query, key, value = (part[:, token] for part in by_head)
        state = state * decay[:, token, :, None, None].exp()
        if beta is not None:
            value = (value - torch.einsum("rhkv,rhk->rhv", state, key)) * beta[:, token, :, None]
        state = state + key[..., None] * value[:, :, None]
        mixed_tokens.append(torch.einsum("rhkv,rhk->rhv", state, query) * scale)
    return torch.stack(mixed_tokens, 1).flatten(2), state
