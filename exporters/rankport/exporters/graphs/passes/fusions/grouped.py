"""Graph pass: rotations and norms of queries and keys go into the GroupQueryAttention that alone reads them.

requires: `rotary` and `norms` have run; each token's index as the operator's positions [rows, row tokens].
ensures:  where queries and keys are rotated by the same tables, the operator rotates them, by a table with a row a
          token; where both were normalized by head before, with one epsilon, it does that too: on CUDA alone.
          `separate_norms` takes the norms out again, for a CPU.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from rankport.exporters.graphs.passes.fusions.matching import made_by, put

OPERATOR = "GroupQueryAttention"
_PAST_KEY, _COS, _SIN, _POSITIONS, _Q_NORM, _K_NORM = 3, 7, 8, 9, 14, 15


def fuse_into_grouped(model: ir.Model) -> int:
    """Rewrites every such operator. Returns how many rotate by themselves."""
    graph = model.graph
    tables = _Tables(graph)
    nodes = [node for node in graph if node.op_type == OPERATOR]
    fused = sum(_fuse(node, tables) for node in nodes)
    for node in nodes:
        if node.inputs[_COS] is None:
            node.replace_input_with(_POSITIONS, None)
    passes.RemoveUnusedNodesPass()(model)
    passes.TopologicalSortPass()(model)
    return fused


def separate_norms(model: ir.Model) -> int:
    """Has the norms of queries and keys stand before the operator. Returns how many there were."""
    found = 0
    for node in list(model.graph):
        if node.op_type == OPERATOR and node.inputs[_Q_NORM] is not None:
            for place, norm in ((0, _Q_NORM), (1, _K_NORM)):
                _separate(model.graph, node, place, norm)
                found += 1
    return found


@dataclass(frozen=True, slots=True)
class _Side:
    """Queries or keys as the operator reads them: through a reshape, behind their rotation and perhaps a norm."""

    reshape: ir.Node
    rotation: ir.Node
    norm: ir.Node | None


def _fuse(node: ir.Node, tables: "_Tables") -> bool:
    query, key = _side(node.inputs[0]), _side(node.inputs[1])
    if query is None or key is None or query.rotation.inputs[1:] != key.rotation.inputs[1:]:
        return False
    past = node.inputs[_PAST_KEY]
    assert past is not None
    for place, table in ((_COS, query.rotation.inputs[2]), (_SIN, query.rotation.inputs[3])):
        node.replace_input_with(place, tables.long(table, past))
    node.attributes["do_rotary"] = ir.AttrInt64("do_rotary", 1)
    norms = [side.norm for side in (query, key)]
    epsilons = [None if norm is None else norm.attributes.get_float("epsilon", 0.0) for norm in norms]
    together = None not in norms and epsilons[0] == epsilons[1]
    for side, place in ((query, _Q_NORM), (key, _K_NORM)):
        source = side.rotation.inputs[0]
        if together and side.norm is not None:
            source = side.norm.inputs[0]
            node.replace_input_with(place, side.norm.inputs[1])
        side.reshape.replace_input_with(0, source)
    if together and epsilons[0] is not None:
        node.attributes["qk_norm_epsilon"] = ir.AttrFloat32("qk_norm_epsilon", epsilons[0])
    return True


def _side(states: ir.Value | None) -> _Side | None:
    reshape = made_by(states, "Reshape")
    rotation = None if reshape is None else made_by(_before_reshapes(reshape.inputs[0]), "RotaryEmbedding")
    if reshape is None or rotation is None or len(list(reshape.outputs[0].consumers())) != 1:
        return None
    norm = made_by(_before_reshapes(rotation.inputs[0]), "SimplifiedLayerNormalization")
    by_head = norm is not None and _width(norm.inputs[1]) == _width_of_heads(rotation)
    return _Side(reshape, rotation, norm if by_head else None)


def _before_reshapes(value: ir.Value | None) -> ir.Value | None:
    """Follows reshapes back, none of which moves a number."""
    while (reshape := made_by(value, "Reshape")) is not None:
        value = reshape.inputs[0]
    return value


def _width(weight: ir.Value | None) -> int:
    return 0 if weight is None or weight.const_value is None else weight.const_value.size


def _width_of_heads(rotation: ir.Node) -> int:
    """Reads the width of a head where the shape says it: [..., heads * head_dim] by the reshape before."""
    rows = made_by(rotation.inputs[0], "Reshape")
    shape = None if rows is None or rows.inputs[1] is None else rows.inputs[1].const_value
    heads = rotation.attributes.get_int("num_heads", 0)
    return 0 if shape is None or not heads else int(np.asarray(shape.numpy())[-1]) // heads


class _Tables:
    """Cosines and sines with so many more rows that the operator takes them for a table of all positions."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._known: dict[ir.Value, ir.Value] = {}
        self._pads: ir.Value | None = None

    def long(self, table: ir.Value | None, past: ir.Value) -> ir.Value:
        """[tokens + cached, width / 2]"""
        assert table is not None
        if table not in self._known:
            producer = table.producer()
            assert producer is not None
            padded = put(ir.node("Pad", [table, self._more(past)]), after=producer)
            padded.type = table.type
            self._known[table] = padded
        return self._known[table]

    def _more(self, past: ir.Value) -> ir.Value:
        """Makes [0, 0, cached, 0]."""
        if self._pads is None:
            zeros = [_shape(self._graph, f"grouped.pads_{size}", [0] * size) for size in (2, 1)]
            cached = ir.node("Shape", [past], {"start": 2, "end": 3})
            pads = ir.node("Concat", [zeros[0], cached.outputs[0], zeros[1]], {"axis": 0})
            for made in (pads, cached):
                self._graph.insert_before(self._graph[0], made)
                made.outputs[0].type = ir.TensorType(ir.DataType.INT64)
            self._pads = pads.outputs[0]
        return self._pads


def _separate(graph: ir.Graph, node: ir.Node, place: int, norm: int) -> None:
    states, weight = node.inputs[place], node.inputs[norm]
    assert states is not None
    assert weight is not None
    width = weight.shape[0] if weight.shape is not None else 0
    heads = node.attributes.get_int(("num_heads", "kv_num_heads")[place], 0)
    assert isinstance(width, int)
    by_head, flat = (
        _shape(graph, f"{node.outputs[0].name}.norm_{place}_{len(sizes)}", sizes)
        for sizes in ([0, 0, heads, width], [0, 0, heads * width])
    )
    epsilon = node.attributes.get_float("qk_norm_epsilon", 1e-6)
    apart = ir.node("Reshape", [states, by_head])
    normed = ir.node(
        "SimplifiedLayerNormalization",
        [apart.outputs[0], weight],
        {"axis": -1, "stash_type": 1, "epsilon": epsilon},
    )
    joined = ir.node("Reshape", [normed.outputs[0], flat])
    for made in (apart, normed, joined):
        made.outputs[0].type = states.type
        graph.insert_before(node, made)
    node.replace_input_with(place, joined.outputs[0])
    node.replace_input_with(norm, None)


def _shape(graph: ir.Graph, name: str, sizes: list[int]) -> ir.Value:
    array = np.array(sizes, np.int64)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.INT64))
    value.const_value = ir.tensor(array, name=name)
    graph.initializers[name] = value
    return value
