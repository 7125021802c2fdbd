"""Faults in the graphs of a ranker: positions, masks, the prefix's KV, attention, norms."""

import numpy as np
from numpy.typing import NDArray

from mutations.edits import (
    THERE,
    all_of,
    before_nodes,
    behind,
    behind_nodes,
    constant,
    exchange,
    op,
    scalar,
    swap_uses,
    use_instead,
    without_nodes,
)
from mutations.fault import Fault, in_graphs

HEAD_DIM, HIDDEN = 20, 32
PAST = op("Shape", "past_key.0", start=2, end=3)
LONGEST_PAST = op("ReduceMax", "past_lengths", keepdims=1)
FLOAT, BFLOAT16 = 1, 16
EVERYTHING = 2**62
WHOLE = ("full_sequence",)

LAST_NORM = slice(-1, None)


def _by_kv_head(queries: NDArray[np.generic]) -> NDArray[np.generic]:
    """Puts the outputs of two heads of two groups, (group, KV head), in the order (KV head, group)."""
    return queries.reshape(HIDDEN, 2, 2, HEAD_DIM).swapaxes(1, 2).reshape(HIDDEN, -1)


POSITIONS = [
    Fault(
        "wrong position offset",
        "An item's positions start one too far behind its prefix.",
        "plain",
        in_graphs(behind("position_ids", op("Add", THERE, [1])), "score"),
        "prefix_reuse/text",
        WHOLE,
    ),
    Fault(
        "positions of items from zero",
        "An item's positions start at 0 instead of at its prefix's length.",
        "plain",
        in_graphs(behind("position_ids", op("Sub", THERE, LONGEST_PAST)), "score"),
        "prefix_reuse/text",
        WHOLE,
    ),
    Fault(
        "positions of an extended prefix from zero",
        "A prefix that continues a cached one counts its positions anew.",
        "plain",
        in_graphs(behind("position_ids", op("Sub", THERE, LONGEST_PAST)), "prefix"),
        "prefix_extension/text",
        ("full_sequence", "prefix_reuse", "one_item"),
    ),
    Fault(
        "wrong rope base",
        "Rotary frequencies of base 1,000,000 instead of 10,000.",
        "plain",
        in_graphs(constant("inv_freq", lambda old: 1e6 ** (-np.arange(len(old)) / len(old)))),
        "full_sequence/text",
    ),
    Fault(
        "rotation the other way",
        "The sine of the rotary encoding has the wrong sign.",
        "plain",
        in_graphs(behind_nodes("Sin", op("Neg", THERE))),
        "full_sequence/text",
    ),
    Fault(
        "rotary scaling dropped",
        "Frequencies of a checkpoint with linearly scaled positions, unscaled by 2.",
        "plain",
        in_graphs(constant("inv_freq", lambda old: old * 2)),
        "full_sequence/text",
    ),
]

PREFIX = [
    Fault(
        "truncated prefix",
        "Items do not see the last token of their prefix.",
        "plain",
        in_graphs(behind("past_lengths", op("Max", op("Sub", THERE, [1]), [0])), "score"),
        "prefix_reuse/text",
        WHOLE,
    ),
    Fault(
        "padding of a prefix seen",
        "Items see the slots behind a prefix that is shorter than others of its pass.",
        "plain",
        in_graphs(behind("past_lengths", op("Add", op("Mul", THERE, [0]), PAST)), "score"),
        "many_prefixes/text",
        ("full_sequence", "prefix_reuse", "prefix_extension", "one_item"),
    ),
    Fault(
        "KV of a neighbour",
        "Items attend to the prefix of the next request in the pass.",
        "plain",
        in_graphs(
            all_of(
                *(
                    behind(
                        f"past_{part}.{layer}",
                        op(
                            "Concat",
                            op("Slice", THERE, [1], [EVERYTHING], [0]),
                            op("Slice", THERE, [0], [1], [0]),
                            axis=0,
                        ),
                    )
                    for part in ("key", "value")
                    for layer in (0, 1)
                )
            ),
            "score",
        ),
        "many_prefixes/text",
        ("full_sequence", "prefix_reuse", "prefix_extension", "one_item"),
    ),
    Fault(
        "KV of another layer",
        "The second layer attends to the keys of the first.",
        "plain",
        in_graphs(use_instead("past_key.1", "past_key.0"), "score"),
        "prefix_reuse/text",
        WHOLE,
    ),
    Fault(
        "keys and values exchanged",
        "The first layer takes its prefix's values for keys.",
        "plain",
        in_graphs(swap_uses("past_key.0", "past_value.0"), "score"),
        "prefix_reuse/text",
        WHOLE,
    ),
    Fault(
        "prefix forgotten on extension",
        "A prefix that continues a cached one does not see it.",
        "plain",
        in_graphs(behind("past_lengths", op("Mul", THERE, [0])), "prefix"),
        "prefix_extension/text",
        ("full_sequence", "prefix_reuse", "one_item"),
    ),
]

MASKS = [
    Fault(
        "mask upper-left",
        "The causal mask of prefix + item is aligned at its upper left, so that an item's tokens are behind it.",
        "plain",
        in_graphs(before_nodes("LessOrEqual", 0, op("Add", THERE, PAST)), "score"),
        "prefix_reuse/text",
        WHOLE,
    ),
    Fault(
        "mask not causal",
        "Tokens of an item see those after them.",
        "plain",
        in_graphs(before_nodes("LessOrEqual", 0, op("Mul", THERE, [0])), "score"),
        "full_sequence/text",
    ),
    Fault(
        "prefix not causal",
        "Tokens of a prefix see those after them.",
        "plain",
        in_graphs(before_nodes("LessOrEqual", 0, op("Mul", THERE, [0])), "prefix"),
        "prefix_reuse/text",
        WHOLE,
    ),
    Fault(
        "own token masked",
        "A token does not see itself.",
        "plain",
        in_graphs(before_nodes("LessOrEqual", 0, op("Add", THERE, [1])), "score"),
        "full_sequence/text",
    ),
]

LAYERS = [
    Fault(
        "missing scale",
        "Attention scores are not divided by the root of the head's width.",
        "plain",
        in_graphs(constant(scalar(HEAD_DIM**-0.5), np.ones_like)),
        "full_sequence/text",
    ),
    Fault(
        "scale of hidden / heads",
        "Attention is scaled as if a head were as wide as hidden / heads.",
        "plain",
        in_graphs(constant(scalar(HEAD_DIM**-0.5), lambda old: old * 0 + 8**-0.5)),
        "full_sequence/text",
    ),
    Fault(
        "norm in low precision",
        "Normalized states are rounded to bfloat16.",
        "plain",
        in_graphs(behind_nodes("Div", op("Cast", THERE, to=BFLOAT16), op("Cast", THERE, to=FLOAT))),
        "full_sequence/text",
    ),
    Fault(
        "norm's epsilon of another family",
        "RMS norms add 1e-5 where the checkpoint says 1e-6.",
        "plain",
        in_graphs(constant(scalar(1e-6), lambda old: old * 10)),
        "full_sequence/text",
    ),
    Fault(
        "norms of queries dropped",
        "Queries are normalized without their weights.",
        "plain",
        in_graphs(constant("q_norm.weight", np.ones_like)),
        "full_sequence/text",
    ),
    Fault(
        "last norm missing",
        "The last layer's states go to the head as they are.",
        "plain",
        in_graphs(without_nodes("Div", LAST_NORM), "score"),
        "full_sequence/text",
    ),
    Fault(
        "residual dropped",
        "The last block's output replaces what it is to be added to.",
        "plain",
        in_graphs(without_nodes("Add", slice(-2, -1), place=1), "score"),
        "full_sequence/text",
    ),
    Fault(
        "keys and values exchanged in the weights",
        "Two projections of one shape lie at each other's place in the weights file.",
        "plain",
        in_graphs(exchange(HIDDEN, 2 * HEAD_DIM)),
        "full_sequence/text",
    ),
    Fault(
        "query heads in another order",
        "Queries come in the checkpoint's order to attention that takes heads by group.",
        "by_group",
        in_graphs(constant(lambda array: array.shape == (HIDDEN, 4 * HEAD_DIM), _by_kv_head)),
        "full_sequence/text",
    ),
]


FAULTS = [*POSITIONS, *PREFIX, *MASKS, *LAYERS]
