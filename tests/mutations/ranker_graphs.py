"""Faults in the graphs of a ranker: positions, masks, the prefix's KV, attention, norms, read-out."""

import numpy as np

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
ITEMS = op("Cast", op("Shape", "last_tokens"), to=1)
FLOAT, BFLOAT16 = 1, 16
EVERYTHING = 2**62
WHOLE = ("full_sequence",)
ALONE = ("full_sequence", "one_item")

LAST_NORM = slice(-1, None)

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
]

READ_OUT = [
    Fault(
        "dropped last token",
        "The logits are read at an item's last token but one.",
        "plain",
        in_graphs(behind("last_tokens", op("Max", op("Sub", THERE, [1]), [0])), "score"),
        "full_sequence/text",
    ),
    Fault(
        "head's rows exchanged",
        "The head gives the logit of no for yes.",
        "plain",
        in_graphs(behind("logits", op("Gather", THERE, [1, 0], axis=1)), "score"),
        "full_sequence/text",
    ),
    Fault(
        "missing head row",
        "The second label has no row in the head: its logit is 0.",
        "plain",
        in_graphs(behind("logits", op("Mul", THERE, np.float32([1, 0]))), "score"),
        "full_sequence/text",
    ),
    Fault(
        "double sigmoid",
        "The graph gives probabilities, of which the runtime makes some again.",
        "plain",
        in_graphs(behind("logits", op("Sigmoid", THERE)), "score"),
        "full_sequence/text",
    ),
    Fault(
        "item order",
        "The logits of a pass come in the reverse order of its items.",
        "plain",
        in_graphs(behind("logits", op("Slice", THERE, [-1], [-EVERYTHING], [0], [-1])), "score"),
        "prefix_reuse/text",
        ("one_item",),
    ),
    Fault(
        "batch-dependent scale",
        "Logits shrink with the number of items that share their pass.",
        "plain",
        in_graphs(
            behind(
                "logits",
                op("Mul", THERE, op("Sub", np.float32([1.01]), op("Mul", ITEMS, np.float32([0.01])))),
            ),
            "score",
        ),
        "prefix_reuse/text",
        ("one_item",),
    ),
    Fault(
        "scores relative to the batch",
        "Logits are centred over the items of their pass.",
        "plain",
        in_graphs(behind("logits", op("Sub", THERE, op("ReduceMean", THERE, [0]))), "score"),
        "prefix_reuse/text",
    ),
]

EMBEDDINGS = [
    Fault(
        "embedding tokens ignored",
        "Where an embedding is injected, the model sees an ordinary token.",
        "mix",
        in_graphs(behind("embedding_rows", op("Sub", op("Mul", THERE, [0]), [1]))),
        "full_sequence/embeddings",
        ("full_sequence/text",),
    ),
    Fault(
        "embedding tokens in reverse order",
        "The embeddings of a pass are injected last first.",
        "mix",
        in_graphs(behind("embeddings", op("Slice", THERE, [-1], [-EVERYTHING], [0], [-1]))),
        "full_sequence/embeddings",
        ("full_sequence/text",),
    ),
    Fault(
        "embedding tokens scaled as words are",
        "Injected embeddings are multiplied by the root of the hidden size.",
        "mix",
        in_graphs(behind("embeddings", op("Mul", THERE, np.float32(HIDDEN**0.5)))),
        "full_sequence/embeddings",
        ("full_sequence/text",),
    ),
    Fault(
        "embedding table off by one",
        "A token has the embedding of the token after it.",
        "plain",
        in_graphs(constant("embed_tokens.weight", lambda old: np.roll(old, -1, axis=0))),
        "full_sequence/text",
    ),
]


FAULTS = [*POSITIONS, *PREFIX, *MASKS, *LAYERS, *READ_OUT, *EMBEDDINGS]
