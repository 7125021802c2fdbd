"""Linear attention of items that go on from the states of their prefixes, without a copy of a state for each item.

The gated (delta) rule is linear in the state S0 that it starts from and in its values. So a row of ONNX Runtime's
operator holds items of a prefix one after another, each from a state of zeros on, and what S0 adds comes by two
products that all items share, with G the sum of the decays from an item's start on:

    values of the operator    v - exp(G) k S0      (of the delta rule; else v)
    result                    its result + scale exp(G) q S0
    state after a prefix      its state + exp(G) S0

On CUDA a row is one long item, or short ones, and its first item goes on from S0 by the operator itself, which reads
and writes a state for each row of its input anyway, 1 MB of 16 heads of 128 x 128. So prompts, steps and long items
need no product, and those that are there have no rows then. With a state for each item, 250 items of two tokens would
move 750 MB a layer and hold 500; by two rows of them and the products of all others it is about 70.
"""

import torch
from torch import Tensor

from rankport.exporters.graphs.recurrences import States, linear_attention
from rankport.exporters.kinds.decoders.items_apart import ItemsApart

_ZERO = -1e4
"""Logarithm of a decay that leaves nothing."""


def attend_linearly(
    shared: ItemsApart, states: States, decay: Tensor, beta: Tensor | None, past: Tensor, *, scale: float
) -> tuple[Tensor, Tensor]:
    """Attends from the state of each prefix on, past [prefixes, heads, key width, value width].

    states: query, key and value [1, tokens, heads, width]; decay (a logarithm) and beta [1, tokens, heads]; None: no
    delta rule. Gives [1, tokens, heads, value width], and the state after each prefix where its one item is the
    prefix's own: all of its places, in one row.
    """
    prefixes, heads, _, value_width = past.shape
    rows = shared.operator_rows

    def by_head(places: Tensor) -> Tensor:
        """[prefixes, places, heads, width]"""
        return places.reshape(prefixes, places.shape[1], heads, -1)

    def by_row(places: Tensor) -> Tensor:
        """[prefixes * rows, row places, ...]"""
        return places.reshape(prefixes * rows, places.shape[1] // rows, *places.shape[2:])

    # Where there is no token the state stays: nothing decays, and nothing is added.
    gates = shared.gates_by_prefix(decay)
    sums = shared.sums_in_items(gates)
    left = shared.rest_of_rows(sums).exp()[..., None]

    def read(places: Tensor) -> Tensor:
        return (shared.rest_of_rows(places).transpose(1, 2) @ past).transpose(1, 2) * left

    def with_read(places: Tensor, of_past: Tensor) -> Tensor:
        return shared.with_rest(places, shared.rest_of_rows(places) + of_past)

    query, key = (by_head(shared.by_prefix(part.flatten(2))) for part in states[:2])
    values = states[2].flatten(2)
    if beta is None:
        value, betas = by_head(shared.gates_by_prefix(values)), None
    else:
        value = with_read(by_head(shared.by_prefix(values)), -read(key))
        betas = by_row(shared.gates_by_prefix(beta))
    anew = torch.where(shared.place_begins()[..., None], _ZERO, gates)
    decays = shared.with_rest(gates, shared.rest_of_rows(anew))
    going_on = shared.for_rows(past)
    own, after = linear_attention(
        (by_row(query), by_row(key), by_row(value)), by_row(decays), betas, scale=scale, past=going_on
    )
    mixed = with_read(own.reshape(value.shape), read(query) * scale)
    if going_on is None:
        first = after.reshape(prefixes, rows, *past.shape[1:])[:, 0]
        after = first + sums[:, -1].exp()[..., None, None] * past
    return shared.by_token(mixed.flatten(2)).reshape(1, -1, heads, value_width), after
