"""Faults in the graphs of a ranker: what is read of them, and embeddings that are injected."""

import numpy as np

from mutations.edits import (
    THERE,
    behind,
    constant,
    op,
)
from mutations.fault import Fault, Tensors, both, in_graphs, in_source

HIDDEN = 32
ITEMS = op("Cast", op("Shape", "last_tokens"), to=1)
EVERYTHING = 2**62


def _small_head(tensors: Tensors) -> None:
    tensors["score.weight"] = tensors["score.weight"] * 1e-4


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
    Fault(
        "small and twice as large",
        "Logits are about 1e-4 in the checkpoint, and twice that in the bundle.",
        "classifier",
        both(
            in_source(tensors=_small_head),
            in_graphs(behind("logits", op("Mul", THERE, np.float32(2e-4))), "score"),
        ),
        "full_sequence/text",
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


FAULTS = [*READ_OUT, *EMBEDDINGS]
