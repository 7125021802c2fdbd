"""Faults of a manifest that says otherwise than the graphs beside it, as by a hand or a tool that changed it."""

from collections.abc import Mapping

from mutations.fault import Fault, in_manifest
from rankport.runtime.bundle.manifest import AxisRange, GraphSpec, ManifestDraft


def _fewer_layers(draft: ManifestDraft) -> Mapping[str, object]:
    return {"shape": draft.shape.model_copy(update={"layers": draft.shape.layers[:1]})}


def _longer_items(draft: ManifestDraft) -> Mapping[str, object]:
    return {"axes": {**draft.axes, "item_tokens": AxisRange(min=1, max=4096)}}


def _retyped(graph: GraphSpec) -> GraphSpec:
    first, *others = graph.outputs
    return graph.model_copy(update={"outputs": [first.model_copy(update={"dtype": "float32"}), *others]})


FAULTS = [
    Fault(
        "fewer layers stated",
        "The manifest lists the keys and values of the first layer alone.",
        "plain",
        in_manifest(_fewer_layers),
        "shape.layers:",
    ),
    Fault(
        "another precision stated",
        "The manifest says fp16 of graphs in fp32, whose errors could then be larger.",
        "plain",
        in_manifest(lambda draft: {"precision": "fp16"}),
        "precision:",
    ),
    Fault(
        "longer axes stated",
        "Items may be longer by an axis than prefix and item by the limits that were proven.",
        "plain",
        in_manifest(_longer_items),
        "axes.item_tokens:",
    ),
    Fault(
        "another output stated",
        "The manifest gives an output of a graph another type than it has.",
        "encoder",
        in_manifest(lambda draft: {"graphs": [_retyped(graph) for graph in draft.graphs]}),
        "graphs[0].outputs:",
    ),
]
