"""Faults of imported ONNX graphs: what is wired, converted or copied wrong, and what the graph's owner gets."""

import numpy as np

from mutations.edits import THERE, behind, behind_nodes, constant, exchange, op, without_nodes
from mutations.fault import Fault, in_graphs, in_source_graph

WIDTH = 32
OWN = "sentence_embedding"

FAULTS = [
    Fault(
        "imported with types of a second text",
        "Token types that the bundle does not take are 1, where one text has 0.",
        "imported",
        in_graphs(behind("zeros_like", op("Add", THERE, 1))),
        "one_item",
    ),
    Fault(
        "imported mask unread",
        "Nothing reaches the mask of the graph: tokens attend to padding.",
        "imported",
        in_graphs(behind_nodes("Where", op("Mul", THERE, np.float32(0)), which=slice(-1, None))),
        "batch",
        ("one_item",),
    ),
    Fault(
        "imported weights exchanged",
        "Two matrices of one shape lie where the other belongs.",
        "imported",
        in_graphs(exchange(WIDTH, WIDTH)),
        "one_item",
    ),
    Fault(
        "imported positions moved",
        "A constant of the graph, its positions, begins at 1.",
        "imported",
        in_graphs(constant(lambda array: array.shape == (1, 128), lambda old: np.roll(old, -1))),
        "one_item",
    ),
    Fault(
        "operator lost in the conversion",
        "The step to our opset drops an operator of the activation.",
        "imported",
        in_graphs(without_nodes("Erf")),
        "one_item",
    ),
    Fault(
        "another embedding than the graph's own",
        "Hidden states are right, and what the graph's owner makes of them is other.",
        "imported",
        in_source_graph(behind(OWN, op("Mul", THERE, np.float32(1.5)))),
        OWN,
        ("one_item", "batch"),
    ),
]
