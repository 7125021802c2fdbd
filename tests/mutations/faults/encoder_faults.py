"""Faults of item encoders: padding, positions, pooling, what follows it."""

import numpy as np

from mutations.edits import (
    THERE,
    Array,
    LastOf,
    at_nodes,
    behind,
    behind_nodes,
    constant,
    op,
    square,
    with_attribute,
    without_nodes,
)
from mutations.fault import Fault, in_graphs, in_manifest, in_source
from rankport.runtime.bundle.manifest import ManifestDraft

FLOAT, BFLOAT16 = 1, 16
EVERYTHING = 2**62
LAYER = "encoder.layer.0."
STATES = LastOf("LayerNormalization")
PADDED_LENGTH = op("Cast", op("Shape", "attention_mask", start=1, end=2), to=FLOAT)


def _positions(old: Array) -> Array:
    return np.roll(old, -2, axis=0)


def _fewer_ids(draft: ManifestDraft) -> dict[str, object]:
    return {"shape": draft.shape.model_copy(update={"vocab_size": 60})}


FAULTS = [
    Fault(
        "padding attended to",
        "Tokens of a short item attend to the padding behind it.",
        "encoder",
        in_graphs(behind_nodes("Where", op("Mul", THERE, np.float32(0)), which=slice(1))),
        "batch",
        ("one_item",),
    ),
    Fault(
        "padding in the mean",
        "The mean is taken over the padded length.",
        "encoder",
        in_graphs(behind_nodes("ReduceSum", op("Add", op("Mul", THERE, np.float32(0)), PADDED_LENGTH))),
        "batch",
        ("one_item",),
    ),
    Fault(
        "wrong pooling",
        "The first token's state, where the mean is asked for.",
        "encoder",
        in_graphs(behind_nodes("Div", op("Slice", STATES, [0], [1], [1]))),
        "one_item",
    ),
    Fault(
        "largest instead of mean",
        "The largest of each value over the tokens, where the mean is asked for.",
        "encoder",
        in_graphs(behind_nodes("Div", op("ReduceMax", STATES, [1]))),
        "one_item",
    ),
    Fault(
        "normalized unasked",
        "Embeddings have length 1, where the checkpoint does not say so.",
        "encoder",
        in_graphs(behind_nodes("Div", op("Div", THERE, op("ReduceL2", THERE, [-1])))),
        "one_item",
    ),
    Fault(
        "embeddings in low precision",
        "Embeddings are rounded to bfloat16 on their way.",
        "encoder",
        in_graphs(behind_nodes("Div", op("Cast", THERE, to=BFLOAT16), op("Cast", THERE, to=FLOAT))),
        "one_item",
    ),
    Fault(
        "rows of a batch in reverse",
        "The embeddings of a batch come last first.",
        "encoder",
        in_graphs(behind("embeddings", op("Slice", THERE, [-1], [-EVERYTHING], [0], [-1]))),
        "batch",
        ("one_item",),
    ),
    Fault(
        "scale of the batch",
        "Embeddings are divided by the largest value of their batch, as dynamic rounding per tensor does.",
        "encoder",
        in_graphs(
            behind_nodes(
                "Div",
                op(
                    "Mul",
                    THERE,
                    op("Div", op("ReduceMax", op("Abs", THERE), [1, 2]), op("ReduceMax", op("Abs", THERE))),
                ),
            )
        ),
        "batch",
        ("one_item",),
    ),
    Fault(
        "positions from two",
        "Positions are counted from behind a padding index, as RoBERTa does, in a model that counts from 0.",
        "encoder",
        in_graphs(constant("position_embeddings.weight", _positions)),
        "one_item",
    ),
    Fault(
        "token types dropped",
        "The embedding of the first token type is not added.",
        "encoder",
        in_graphs(constant("token_type_embeddings.weight", np.zeros_like)),
        "one_item",
    ),
    Fault(
        "bias of an encoder dropped",
        "Values are projected without their bias.",
        "encoder",
        in_graphs(constant(f"{LAYER}attention.self.value.bias", np.zeros_like)),
        "one_item",
    ),
    Fault(
        "GELU approximated",
        "GELU by its approximation by tanh, where the checkpoint has the exact one.",
        "encoder",
        in_graphs(at_nodes("Gelu", with_attribute("approximate", "tanh"))),
        "one_item",
    ),
    Fault(
        "layer norm's epsilon dropped",
        "Layer norms add 1e-5 where the checkpoint says 1e-2.",
        "encoder",
        in_source(config={"layer_norm_eps": 1e-2}),
        "one_item",
    ),
    Fault(
        "a matrix transposed",
        "A square projection is written as it is stored, not transposed.",
        "encoder",
        in_graphs(constant(square(32), np.transpose)),
        "one_item",
    ),
    Fault(
        "last layers dropped",
        "The encoder stops before its last layer norm.",
        "encoder",
        in_graphs(without_nodes("LayerNormalization", slice(-1, None))),
        "one_item",
    ),
    Fault(
        "short of vocabulary",
        "The bundle states fewer ids than the checkpoint has rows: requests with the others would be refused.",
        "encoder",
        in_manifest(_fewer_ids),
        "shape.vocab_size:",
        ("one_item", "batch"),
    ),
]
