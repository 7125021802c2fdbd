"""Linear attention of items beside each other, each from the state of its prefix on, as of each item alone."""

import pytest
import torch
from torch import Tensor

from rankport.exporters.graphs.recurrences import linear_attention
from rankport.exporters.kinds.decoders.linear_attention import attend_linearly
from rankport.exporters.kinds.decoders.row_attention import RowPrefix

HEADS, KEY, VALUE = 2, 4, 3
LENGTHS = {
    "several items a row": (
        (2, 2, 6),
        3,
        [[3, 1, 2, 3], [2, 3, 1, 0]],
    ),  # the last place of the second is empty
    "an item a row": ((2, 3, 3), 3, [[3, 1, 2], [2, 3, 0]]),
    "a step, without one prefix": ((3, 1, 1), 1, [[1], [0], [1]]),
    "prompts": ((2, 1, 5), 5, [[5], [3]]),
}


@pytest.mark.parametrize("delta", [True, False])
@pytest.mark.parametrize("case", LENGTHS)
def test_rows_give_what_each_item_gives_alone(case: str, delta: bool) -> None:
    (prefixes, rows, row_tokens), item_tokens, lengths = LENGTHS[case]
    torch.manual_seed(2)
    tokens = prefixes * rows * row_tokens
    query, key = torch.randn(2, 1, tokens, HEADS, KEY).unbind()
    value = torch.randn(1, tokens, HEADS, VALUE)
    decay, beta = -torch.rand(1, tokens, HEADS), torch.rand(1, tokens, HEADS) if delta else None
    past = torch.randn(prefixes, HEADS, KEY, VALUE)
    places = torch.full((prefixes, rows * row_tokens // item_tokens, item_tokens), -1)
    for prefix, of_items in enumerate(lengths):
        for item, length in enumerate(of_items):
            places[prefix, item, :length] = torch.arange(length)
    shared = RowPrefix(
        torch.Size((prefixes, rows, row_tokens)),
        (torch.zeros(prefixes, 0), torch.zeros(row_tokens, row_tokens)),
        [],
        fused=False,
        positions=torch.zeros(prefixes, rows, row_tokens, dtype=torch.int64),
        item_places=places,
    )
    mixed, states = attend_linearly(shared, (query, key, value), decay, beta, past, scale=0.5)
    if rows == 1 and item_tokens == row_tokens:
        assert states.shape == past.shape

    def of_item(states: Tensor | None, first: int, length: int) -> Tensor | None:
        return None if states is None else states[:, first : first + length]

    for prefix, of_items in enumerate(lengths):
        for item, length in enumerate(of_items):
            first = prefix * rows * row_tokens + item * item_tokens
            alone = [of_item(part, first, length) for part in (query, key, value, decay, beta)]
            if length:
                expected, after = linear_attention(
                    tuple(alone[:3]), alone[3], alone[4], scale=0.5, past=past[prefix : prefix + 1]
                )  # type: ignore[arg-type]
                torch.testing.assert_close(mixed[:, first : first + length], expected, atol=1e-5, rtol=1e-5)
            else:
                after = past[prefix : prefix + 1]
            if rows == 1 and item_tokens == row_tokens:
                torch.testing.assert_close(states[prefix], after[0], atol=1e-5, rtol=1e-5)
