"""Faults of two towers: padding that is read, sides and features exchanged, NaN that is let through."""

import onnx_ir as ir

from mutations.edits import at_nodes, without_nodes
from mutations.fault import Fault, in_graphs, in_manifest


def _exchanged(graph: ir.Graph, node: ir.Node) -> None:
    first, second = node.inputs
    node.replace_input_with(0, second)
    node.replace_input_with(1, first)


def _other_role(role: str) -> str:
    turned = {"represent-query": "represent-item", "represent-item": "represent-query"}
    return turned.get(role, role)


FAULTS = [
    Fault(
        "sides exchanged",
        "The graph of queries reads items, and that of items queries.",
        "towers",
        in_manifest(
            lambda draft: {
                "graphs": [
                    graph.model_copy(update={"role": _other_role(graph.role)}) for graph in draft.graphs
                ]
            }
        ),
        "query_alone",
    ),
    Fault(
        "padding in a convolution",
        "The convolution reads the embedding of padding behind a text, where the tower has zeros.",
        "towers",
        in_graphs(without_nodes("Mul"), "represent-query"),
        "query_batch",
        unseen_by=("query_alone", "end_to_end"),
    ),
    Fault(
        "padding in a maximum",
        "A filter's largest value may be one over padding.",
        "towers",
        in_graphs(without_nodes("Where", place=2), "represent-query"),
        "query_batch",
        unseen_by=("query_alone", "end_to_end"),
    ),
    Fault(
        "difference turned",
        "The difference is item less query.",
        "towers",
        in_graphs(at_nodes("Sub", _exchanged, slice(0, 1)), "score"),
        "score",
        unseen_by=("query_alone", "item_batch"),
    ),
    Fault(
        "NaN let through",
        "A missing feature stays NaN, where the towers count it as a number.",
        "towers",
        in_graphs(without_nodes("Where", place=2), "score"),
        "features_nan",
        unseen_by=("end_to_end",),
    ),
    Fault(
        "features in another order",
        "The manifest names the wide features in another order than the graph takes them.",
        "towers",
        in_manifest(lambda draft: {"wide": draft.wide[::-1]}),
        "wide:",
    ),
    Fault(
        "another output's score",
        "A score speaks for the first output, where the towers name the second.",
        "towers",
        in_manifest(
            lambda draft: {"labels": draft.labels and draft.labels.model_copy(update={"positive": 0})}
        ),
        "labels.positive",
    ),
]
