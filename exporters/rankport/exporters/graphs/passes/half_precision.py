"""Graph pass: a fp32 graph in float16 or bfloat16, but for what must stay exact.

requires: types on all values; the fp32 graph of a ranker or an item encoder, fused or not.
ensures:  weights, states and KV in half precision, scales of low-bit weights too. In fp32 stay the nodes that
          `exact_nodes` tells, inputs but past KV and float16 embeddings, outputs but new KV; states that are
          averaged, or that linear attention carries on, count as neither.
"""

import ml_dtypes
import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from rankport.exporters.graphs.passes.exact_nodes import PAST_RECURRENT, exact_nodes
from rankport.exporters.graphs.passes.fusions.matching import made_by
from rankport.runtime.backends.layouts.sets import table_input
from rankport.runtime.bundle.manifest import Precision

TYPES: dict[Precision, ir.DataType] = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
_NUMPY = {ir.DataType.FLOAT16: np.dtype(np.float16), ir.DataType.BFLOAT16: np.dtype(ml_dtypes.bfloat16)}
_LARGEST = {ir.DataType.FLOAT16: 65504.0, ir.DataType.BFLOAT16: 2.0**127 * (2 - 2**-7)}
_STORED = table_input("")  # start of the names of inputs of stored rows
_FP32_MAX = float(np.finfo(np.float32).max)


class BeyondHalfError(ValueError):
    """Value of a graph that half precision does not hold; which weight it is made of, only the model tells."""

    def __init__(self, name: str | None, largest: float, wanted: ir.DataType) -> None:
        self.largest, self._wanted = largest, wanted
        super().__init__(self.told(str(name)))

    def told(self, name: str) -> str:
        """Says it of a value, or a weight, by its name."""
        return f"{name} holds {self.largest:.3g}, beyond {self._wanted.name.lower()}: use --precision bf16"


def to_half_precision(model: ir.Model, precision: Precision, *, fused: bool) -> None:
    """Rewrites the graph. Raises BeyondHalfError if a weight is beyond float16."""
    graph, half = model.graph, TYPES[precision]
    for value in graph.inputs:
        if value.dtype == ir.DataType.FLOAT and _comes_in_half(value.name or "", half):
            value.type = ir.TensorType(half)
    exact = exact_nodes(graph, half, fused=fused)
    casts = _Casts(graph)
    for node in list(graph):
        wanted = ir.DataType.FLOAT if node in exact else half
        _set_own_type(node, wanted)
        if node.op_type == "Cast":
            continue  # takes any type
        for place, read in enumerate(node.inputs):
            if read is not None and read.dtype in (ir.DataType.FLOAT, half) and read.dtype != wanted:
                node.replace_input_with(place, casts.to(read, wanted, before=node))
    passes.RemoveUnusedNodesPass()(model)
    passes.TopologicalSortPass()(model)


def _comes_in_half(name: str, half: ir.DataType) -> bool:
    """Says whether an input is in half precision too: past KV, and embeddings, which a host cannot give in bfloat16."""
    if name == "embeddings":
        return half == ir.DataType.FLOAT16
    exact = name in ("past_mask", "past_states") or name.startswith(PAST_RECURRENT)
    return name.startswith("past_") and not exact


def _set_own_type(node: ir.Node, wanted: ir.DataType) -> None:
    for value in node.outputs:
        if value.dtype == ir.DataType.FLOAT:
            value.type = ir.TensorType(wanted)
    if node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.FLOAT:
        node.attributes["to"] = ir.AttrInt64("to", int(wanted))


class _Casts:
    """Values in the other type, one each however many nodes read them."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._made: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def to(self, value: ir.Value, wanted: ir.DataType, *, before: ir.Node) -> ir.Value:
        key = (value, wanted)
        if key not in self._made:
            self._made[key] = (
                self._cast(value, wanted, before)
                if value.const_value is None
                else self._converted(value, wanted)
            )
        return self._made[key]

    def _cast(self, value: ir.Value, wanted: ir.DataType, before: ir.Node) -> ir.Value:
        node = ir.node("Cast", [value], {"to": int(wanted)})
        producer = value.producer()
        if producer is not None:
            self._graph.insert_after(producer, node)
        else:
            self._graph.insert_before(before, node)
        cast = node.outputs[0]
        cast.type = ir.TensorType(wanted)
        return cast

    def _converted(self, value: ir.Value, wanted: ir.DataType) -> ir.Value:
        tensor = value.const_value
        assert tensor is not None
        name = f"{value.name}.{wanted.name.lower()}"
        array = np.asarray(tensor.numpy())
        if value.name is not None and array.size == 1 and abs(float(array.item())) == _FP32_MAX:
            # What a mask adds: the most that the type holds does the same.
            array = np.sign(array) * _LARGEST[wanted]
        with np.errstate(over="ignore"):
            small = array.astype(_NUMPY.get(wanted, np.dtype(np.float32)))
        if not np.isfinite(small).all() and np.isfinite(array).all():
            raise BeyondHalfError(value.name, float(np.abs(array).max()), wanted)
        initializer = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(wanted))
        initializer.const_value = ir.Tensor(small, dtype=wanted, name=name)
        self._graph.initializers[name] = initializer
        return initializer


_MOVES = frozenset(
    [
        "Reshape",
        "Transpose",
        "Gather",
        "GatherND",
        "Slice",
        "Concat",
        "Unsqueeze",
        "Squeeze",
        "Expand",
        "Split",
    ]
)


def emulate(model: ir.Model, precision: Precision) -> None:
    """Rewrites a graph for a runtime without half precision: in fp32, every result rounded as the graph rounds it.

    Weights stay in half precision and are widened where they are read. Inputs and outputs become fp32, but for tables
    of stored rows, which stay as they are until they are gathered and cast.
    """
    graph, half = model.graph, TYPES[precision]
    stored = {value for value in graph.inputs if (value.name or "").startswith(_STORED)}
    nodes = [node for node in graph if stored.isdisjoint(node.inputs)]
    rounding = _Casts(graph)
    for value in [*graph.initializers.values()]:
        if value.dtype == half:
            wide = rounding._cast(value, ir.DataType.FLOAT, nodes[0])
            _replace_readers(value, wide)
    for value in graph.inputs:
        if value.dtype == half and value not in stored:
            value.type = ir.TensorType(ir.DataType.FLOAT)
            _replace_readers(value, _rounded(rounding, value, half, nodes[0]))
    for node in nodes:
        if node.op_type == "Cast" and node.attributes["to"].as_int() == half:
            narrow = node.outputs[0]
            wide = rounding._cast(narrow, ir.DataType.FLOAT, node)
            _replace_readers(narrow, wide)
            continue
        for value in node.outputs:
            if value.dtype != half:
                continue
            value.type = ir.TensorType(ir.DataType.FLOAT)
            if node.op_type not in _MOVES and not value.is_graph_output():
                _replace_readers(value, _rounded(rounding, value, half, node))
    passes.TopologicalSortPass()(model)


def _rounded(casts: _Casts, value: ir.Value, half: ir.DataType, near: ir.Node) -> ir.Value:
    narrow = casts._cast(value, half, near)
    producer = narrow.producer()
    assert producer is not None
    return casts._cast(narrow, ir.DataType.FLOAT, producer)


def _replace_readers(old: ir.Value, new: ir.Value) -> None:
    """Has all that read `old` read `new`, but for the cast that `new` comes from."""
    own = made_by(new, "Cast")
    narrow = own.inputs[0] if own is not None else None
    kept = {own, narrow.producer() if narrow is not None else None}
    for node, place in list(old.uses()):
        if node not in kept:
            node.replace_input_with(place, new)
