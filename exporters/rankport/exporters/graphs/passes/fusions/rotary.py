"""Graph pass: rotary embedding becomes one operator of ONNX Runtime, laid out token by token.

requires: x * cos + concat(-x[half:], x[:half]) * sin over x [rows, heads, tokens, head_dim], where the two halves of
          cos and sin [1, tokens, head_dim] are equal: both made of concat(angles, angles); shapes on values.
ensures:  com.microsoft RotaryEmbedding over [rows, tokens, heads * head_dim], so that the exchange of axes before it
          and the one that undoes it after it are no copies.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from rankport.exporters.graphs.passes.fusions.matching import (
    ints,
    made_by,
    pair,
    permutation,
    put,
    take_place,
)

_BY_HEAD = [0, 2, 1, 3]
_TO_THE_END = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Rotation:
    result: ir.Node  # the Add
    states: ir.Value  # [rows, heads, tokens, head_dim]
    cos: ir.Value  # [1, tokens, head_dim]
    sin: ir.Value
    heads: int
    head_dim: int


def fuse_rotary(model: ir.Model) -> int:
    """Rewrites every rotation of whole heads. Returns how many."""
    graph = model.graph
    rotations = [found for node in graph if node.op_type == "Add" and (found := _rotation(node))]
    tables = _Tables(graph)
    for rotation in rotations:
        _fuse(graph, rotation, tables)
    passes.RemoveUnusedNodesPass()(model)
    passes.TopologicalSortPass()(model)
    return len(rotations)


def _rotation(total: ir.Node) -> _Rotation | None:
    for plain, turned in (tuple(total.inputs), tuple(reversed(total.inputs))):
        by_sin = pair(made_by(turned, "Mul"), "Concat")
        if by_sin is None:
            continue
        halves, sin = by_sin
        states = _turned(halves)
        by_cos = made_by(plain, "Mul")
        if states is None or by_cos is None or states not in by_cos.inputs:
            continue
        cos = by_cos.inputs[1] if by_cos.inputs[0] is states else by_cos.inputs[0]
        cosines, sines = _unsqueezed(cos), _unsqueezed(sin)
        shape = states.shape
        if cosines is None or sines is None or shape is None or len(shape) != 4:
            continue
        heads, head_dim = shape[1], shape[3]
        if _of_all_rows((cosines, sines)) and isinstance(heads, int) and isinstance(head_dim, int):
            return _Rotation(total, states, cosines, sines, heads, head_dim)
    return None


def _of_all_rows(tables: tuple[ir.Value, ir.Value]) -> bool:
    """Tells whether every row has the same positions, one after the other."""
    return all(table.shape is not None and table.shape[0] == 1 for table in tables)


def _turned(halves: ir.Node) -> ir.Value | None:
    """Finds x of concat(-x[half:], x[:half])."""
    if len(halves.inputs) != 2:
        return None
    negative = made_by(halves.inputs[0], "Neg")
    upper = None if negative is None else made_by(negative.inputs[0], "Slice")
    lower = made_by(halves.inputs[1], "Slice")
    if upper is None or lower is None or upper.inputs[0] is not lower.inputs[0]:
        return None
    states = lower.inputs[0]
    assert states is not None
    width = states.shape[-1] if states.shape is not None else None
    if not isinstance(width, int) or _bounds(lower) != (0, width // 2):
        return None
    start, end = _bounds(upper) or (0, 0)
    return states if start == width // 2 and end >= width else None


def _bounds(cut: ir.Node) -> tuple[int, int] | None:
    start, end = ints(cut.inputs[1]), ints(cut.inputs[2])
    return (start[0], end[0]) if start and end and len(start) == len(end) == 1 else None


def _unsqueezed(table: ir.Value | None) -> ir.Value | None:
    """Finds [1, tokens, head_dim] of what broadcasts over heads, if its two halves are equal."""
    unsqueeze = made_by(table, "Unsqueeze")
    if unsqueeze is None or ints(unsqueeze.inputs[1]) != [1]:
        return None
    inner = unsqueeze.inputs[0]
    return inner if _repeats(inner) else None


def _repeats(value: ir.Value | None) -> bool:
    """Tells what is made of concat(x, x) by operators that treat every element alike."""
    node = None if value is None else value.producer()
    if node is None:
        return False
    if node.op_type == "Concat":
        return len(node.inputs) == 2 and node.inputs[0] is node.inputs[1]
    if node.op_type == "Mul":
        first, second = node.inputs
        for candidate, other in ((first, second), (second, first)):
            if other is not None and other.const_value is not None and other.const_value.size == 1:
                return _repeats(candidate)
        return False
    return node.op_type in ("Cos", "Sin", "Cast") and _repeats(node.inputs[0])


class _Tables:
    """Half tables [tokens, head_dim / 2] of cos and sin, one each however many layers read them."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._halves: dict[ir.Value, ir.Value] = {}
        self.start = self.constant("rotary.start", [0])

    def half(self, table: ir.Value, head_dim: int) -> ir.Value:
        if table not in self._halves:
            producer = table.producer()
            assert producer is not None
            bounds = [
                self.constant(f"rotary.{name}", value)
                for name, value in (("from", [0]), (f"half_{head_dim}", [head_dim // 2]), ("axis", [2]))
            ]
            half = put(ir.node("Slice", [table, *bounds]), after=producer)
            shape = self.constant(f"rotary.shape_{head_dim}", [-1, head_dim // 2])
            half_producer = half.producer()
            assert half_producer is not None
            flat = put(ir.node("Reshape", [half, shape]), after=half_producer)
            half.type = flat.type = table.type
            self._halves[table] = flat
        return self._halves[table]

    def constant(self, name: str, values: list[int]) -> ir.Value:
        known = self._graph.initializers.get(name)
        if known is not None:
            return known
        array = np.array(values, np.int64)
        constant = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.INT64))
        constant.const_value = ir.tensor(array, name=name)
        self._graph.initializers[name] = constant
        return constant


def _fuse(graph: ir.Graph, rotation: _Rotation, tables: _Tables) -> None:
    heads, head_dim = rotation.heads, rotation.head_dim
    cos, sin = tables.half(rotation.cos, head_dim), tables.half(rotation.sin, head_dim)
    rows = tables.constant(f"rotary.rows_{heads}_{head_dim}", [0, 0, heads * head_dim])
    by_token = tables.constant(f"rotary.by_token_{heads}_{head_dim}", [0, 0, heads, head_dim])
    anchor, total = rotation.result, rotation.result.outputs[0]

    def chain(node: ir.Node) -> ir.Value:
        nonlocal anchor
        result = put(node, after=anchor)
        result.type, anchor = total.type, node
        return result

    before = made_by(rotation.states, "Transpose")
    if before is not None and permutation(before) == _BY_HEAD:
        states = before.inputs[0]
    else:
        states = chain(ir.node("Transpose", [rotation.states], {"perm": _BY_HEAD}))
    flat = chain(ir.node("Reshape", [states, rows]))
    turned = chain(
        ir.node(
            "RotaryEmbedding",
            [flat, tables.start, cos, sin],
            {"num_heads": heads, "interleaved": 0},
            domain="com.microsoft",
        )
    )
    tokens_first = chain(ir.node("Reshape", [turned, by_token]))
    for reader in list(total.consumers()):
        if reader.op_type == "Transpose" and permutation(reader) == _BY_HEAD:
            take_place(tokens_first, reader.outputs[0])
    if list(total.consumers()) or total.is_graph_output():
        take_place(chain(ir.node("Transpose", [tokens_first], {"perm": _BY_HEAD})), total)
