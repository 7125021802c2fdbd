"""Graph passes: take the read-out rows as early as the arithmetic allows.

requires: shapes on intermediate values; for `select_rows_early` one selection of token rows by a graph input, as the
          torch exporter writes `states[:, rows]` (Transpose, GatherND, Transpose); for `select_first_early` one of each
          text's first token, `states[:, 0]` (Gather) or `states[:, :1]` (Slice); for `select_marked_early` one of each
          text's own rows, as it writes torch.gather (Unsqueeze and Expand of the graph input, GatherElements).
ensures:  the same outputs; the selection stands right after the last block's attention, as a plain Gather or GatherND,
          so that the block's output projection, MLP and norms run for the read-out tokens only.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from rankport.exporters.graphs.passes.fusions.matching import ints
from rankport.exporters.graphs.passes.row_wise import compute_rows_only, has_token_rows, only_reader, settle


@dataclass(frozen=True, slots=True)
class _Selection:
    states: ir.Value  # [1, tokens, features]
    rows: ir.Value  # [rows]
    selected: ir.Value  # [1, rows, features]


def select_rows_early(model: ir.Model, rows: str) -> int:
    """Moves the selection by the graph input `rows` up. Returns how many nodes now run on the selected rows only."""
    selection = _find_selection(model.graph, rows)
    if selection is None:
        return 0
    moved = compute_rows_only(model, selection.states, selection.rows)
    if moved:
        selection.selected.replace_all_uses_with(selection.states)
        settle(model)
    return moved


def select_first_early(model: ir.Model) -> int:
    """Moves the selection of first tokens up, if there is one. Returns how many nodes now run on them only."""
    states = _states_read_first(model.graph)
    if states is None:
        return 0
    first = ir.Value(name="first_token", shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.INT64))
    first.const_value = ir.tensor(np.zeros(1, np.int64), name=first.name)
    moved = compute_rows_only(model, states, first)
    if moved:
        model.graph.initializers["first_token"] = first
        settle(model)
    return moved


def select_marked_early(model: ir.Model, marks: str) -> int:
    """Moves the selection of each text's rows by the graph input `marks` [texts, rows] up, if there is one.

    Returns how many nodes now run on them only.
    """
    graph = model.graph
    index = next(value for value in graph.inputs if value.name == marks)
    gather = next((node for node in graph if _gathers_by(node, index)), None)
    states = None if gather is None else gather.inputs[0]
    if states is None or not has_token_rows(states) or only_reader(states, set(graph.outputs)) is not gather:
        return 0
    assert gather is not None
    last = ir.Value(name="last_axis", shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.INT64))
    last.const_value = ir.tensor(np.array([-1]), name=last.name)
    rows = ir.node("Unsqueeze", [index, last])
    rows.outputs[0].type = index.type
    moved = compute_rows_only(model, states, rows.outputs[0], own=True)
    if moved:
        graph.initializers["last_axis"] = last
        graph.insert_before(graph[0], rows)
        _stand_for(states, gather.outputs[0])
        settle(model)
    return moved


def _stand_for(states: ir.Value, selected: ir.Value) -> None:
    """Puts states that have the selected rows alone by now in the place of a selection, an output of the graph too."""
    name, shape = selected.name, selected.shape
    is_output = selected.is_graph_output()
    selected.replace_all_uses_with(states, replace_graph_outputs=True)
    if is_output:
        selected.name, states.name, states.shape = None, name, shape


def _gathers_by(node: ir.Node, index: ir.Value) -> bool:
    """Tells a node that takes token rows by places that were made of nothing but an input."""
    if node.op_type != "GatherElements" or node.attributes.get_int("axis", 0) != 1:
        return False
    places = node.inputs[1]
    while places is not None and places is not index:
        producer = places.producer()
        if producer is None or producer.op_type not in ("Expand", "Unsqueeze"):
            return False
        places = producer.inputs[0]
    return places is index


def _find_selection(graph: ir.Graph, rows: str) -> _Selection | None:
    """Finds the selection, if nothing but its own nodes reads what it is made of."""
    index = next((value for value in graph.inputs if value.name == rows), None)
    outputs = set(graph.outputs)
    for unsqueeze in () if index is None else index.consumers():
        for gather in unsqueeze.outputs[0].consumers():
            before = gather.inputs[0].producer() if gather.inputs[0] is not None else None
            after = only_reader(gather.outputs[0], outputs)
            if (
                unsqueeze.op_type == "Unsqueeze"
                and gather.op_type == "GatherND"
                and gather.inputs[1] is unsqueeze.outputs[0]
                and before is not None
                and _swaps_leading_axes(before)
                and _swaps_leading_axes(after)
                and only_reader(before.outputs[0], outputs) is gather
            ):
                assert after is not None
                states, selected = before.inputs[0], after.outputs[0]
                assert states is not None
                assert index is not None
                if (
                    only_reader(states, outputs) is before
                    and has_token_rows(states)
                    and selected not in outputs
                ):
                    return _Selection(states, index, selected)
    return None


def _swaps_leading_axes(node: ir.Node | None) -> bool:
    return (
        node is not None
        and node.op_type == "Transpose"
        and list(node.attributes["perm"].as_ints()) == [1, 0, 2]
    )


def _states_read_first(graph: ir.Graph) -> ir.Value | None:
    """Finds states of which nothing but the first token is read."""
    outputs = set(graph.outputs)
    for node in graph:
        states = node.inputs[0] if _takes_first(node) else None
        if states is not None and only_reader(states, outputs) is node and has_token_rows(states):
            return states
    return None


def _takes_first(node: ir.Node) -> bool:
    if node.op_type == "Gather":
        return node.attributes.get_int("axis", 0) == 1 and ints(node.inputs[1]) == [0]
    if node.op_type == "Slice" and len(node.inputs) > 3:
        return [ints(value) for value in node.inputs[1:4]] == [[0], [1], [1]]
    return False
