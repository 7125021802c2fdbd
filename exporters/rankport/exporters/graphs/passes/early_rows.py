"""Graph pass: take the read-out rows as early as the arithmetic allows.

requires: shapes on intermediate values; one selection of token rows by a graph input, as the torch exporter writes
          `states[:, rows]` (Transpose, GatherND, Transpose).
ensures:  the same outputs; the selection stands right after the last block's attention, as a plain Gather, so that the
          block's output projection, MLP and norms run for the read-out tokens only.

A row-wise node commutes with a selection of rows: f(x)[:, rows] = f(x[:, rows]).
"""

from dataclasses import dataclass

import onnx_ir as ir
import onnx_ir.passes.common as passes

_TOKEN_AXIS = 1  # of states [1, tokens, features]
_ELEMENTWISE = frozenset(
    [
        "Abs",
        "Add",
        "Atan",
        "Cast",
        "Clip",
        "Div",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "Greater",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Less",
        "Max",
        "Min",
        "Mul",
        "Neg",
        "Pow",
        "QuickGelu",
        "Reciprocal",
        "Relu",
        "Round",
        "Sigmoid",
        "Sin",
        "Softplus",
        "Sqrt",
        "Sub",
        "Tanh",
        "Where",
    ]
)
_OVER_LAST_AXIS = frozenset({"ReduceMax", "ReduceMean", "ReduceSum"})
_LOW_BIT_PRODUCTS = frozenset({"MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits"})


@dataclass(frozen=True, slots=True)
class _Selection:
    states: ir.Value  # [1, tokens, features]
    rows: ir.Value  # [rows]
    selected: ir.Value  # [1, rows, features]

    @property
    def tokens(self) -> str:
        """The name of the token axis."""
        assert self.states.shape is not None
        return str(self.states.shape[_TOKEN_AXIS])


def select_rows_early(model: ir.Model, rows: str) -> int:
    """Moves the selection by the graph input `rows` up. Returns how many nodes now run on the selected rows only."""
    selection = _find_selection(model.graph, rows)
    if selection is None:
        return 0
    cone = _row_wise_cone(model.graph, selection)
    if not cone:
        return 0
    for value in _frontier(cone, selection.tokens):
        _select(value, selection.rows, cone)
    selection.selected.replace_all_uses_with(selection.states)
    for node in cone:
        for output in node.outputs:
            output.shape = None
    passes.RemoveUnusedNodesPass()(model)
    passes.TopologicalSortPass()(model)
    return len(cone)


def _find_selection(graph: ir.Graph, rows: str) -> _Selection | None:
    """Finds the selection, if nothing but its own nodes reads what it is made of."""
    index = next((value for value in graph.inputs if value.name == rows), None)
    outputs = set(graph.outputs)
    for unsqueeze in () if index is None else index.consumers():
        for gather in unsqueeze.outputs[0].consumers():
            before = gather.inputs[0].producer() if gather.inputs[0] is not None else None
            after = _only_reader(gather.outputs[0], outputs)
            if (
                unsqueeze.op_type == "Unsqueeze"
                and gather.op_type == "GatherND"
                and gather.inputs[1] is unsqueeze.outputs[0]
                and before is not None
                and _swaps_leading_axes(before)
                and _swaps_leading_axes(after)
                and _only_reader(before.outputs[0], outputs) is gather
            ):
                assert after is not None
                states, selected = before.inputs[0], after.outputs[0]
                assert states is not None
                assert index is not None
                if _only_reader(states, outputs) is before and _has_axes(states) and selected not in outputs:
                    return _Selection(states, index, selected)
    return None


def _only_reader(value: ir.Value, outputs: set[ir.Value]) -> ir.Node | None:
    """Finds the node that reads the value, if it is the only one and the graph does not give the value away."""
    readers = list(value.consumers())
    return readers[0] if len(readers) == 1 and value not in outputs else None


def _swaps_leading_axes(node: ir.Node | None) -> bool:
    return (
        node is not None
        and node.op_type == "Transpose"
        and list(node.attributes["perm"].as_ints()) == [1, 0, 2]
    )


def _row_wise_cone(graph: ir.Graph, selection: _Selection) -> list[ir.Node]:
    """Collects row-wise nodes whose results nobody but the selection needs, last first."""
    members = set(selection.states.consumers())
    cone: list[ir.Node] = []
    outputs = set(graph.outputs)
    for node in reversed(list(graph)):
        users = {user for value in node.outputs for user in value.consumers()}
        if (
            users
            and users <= members
            and not outputs & set(node.outputs)
            and _is_row_wise(node, selection.tokens)
        ):
            members.add(node)
            cone.append(node)
    return cone


def _is_row_wise(node: ir.Node, tokens: str) -> bool:
    if not all(_is_states(value, tokens) for value in node.outputs):
        return False
    first, *others = node.inputs
    if node.op_type in _ELEMENTWISE:
        return all(_is_states(value, tokens) or _is_constant_row(value) for value in node.inputs)
    if not _is_states(first, tokens):
        return False
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return all(_is_constant_scalar(value) for value in others)
    if node.op_type == "MatMul":
        return _is_constant(node.inputs[1]) or _is_of_constants(node.inputs[1])
    if node.op_type in _LOW_BIT_PRODUCTS:
        return all(_is_constant(value) for value in others if value is not None)
    if node.op_type == "Gather":
        return _int_attribute(node, "axis", 0) in (-1, 2) and _is_constant(others[0])
    if node.op_type in _OVER_LAST_AXIS:
        return len(others) == 1 and _constant_ints(others[0]) in ([-1], [2])
    if node.op_type in ("LayerNormalization", "RMSNormalization"):
        return _int_attribute(node, "axis", -1) in (-1, 2) and all(_is_constant(value) for value in others)
    if node.op_type == "Split":
        return _int_attribute(node, "axis", 0) in (-1, 2)
    return False


def _int_attribute(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def _has_axes(value: ir.Value) -> bool:
    shape = value.shape
    return shape is not None and len(shape) == 3 and shape[0] == 1 and not isinstance(shape[_TOKEN_AXIS], int)


def _is_states(value: ir.Value | None, tokens: str) -> bool:
    """Tells computed [1, tokens, features]. The token axis must be the selection's own: another may have size 1."""
    if value is None or _is_constant(value) or not _has_axes(value):
        return False
    assert value.shape is not None
    return str(value.shape[_TOKEN_AXIS]) == tokens


def _is_constant(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None


def _is_of_constants(value: ir.Value | None) -> bool:
    """Tells what is computed of constants alone, as a low-bit one is made fp32 for the product."""
    producer = None if value is None else value.producer()
    return producer is not None and all(
        _is_constant(part) or _is_of_constants(part) for part in producer.inputs if part is not None
    )


def _is_constant_scalar(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and value.const_value.size == 1


def _is_constant_row(value: ir.Value | None) -> bool:
    """Tells a constant that broadcasts over tokens."""
    if not _is_constant(value):
        return False
    assert value is not None
    shape = value.shape
    return shape is not None and (len(shape) < 2 or shape[-2] == 1)


def _constant_ints(value: ir.Value | None) -> list[int] | None:
    tensor = None if value is None else value.const_value
    return None if tensor is None else [int(number) for number in tensor.numpy().flatten()]


def _frontier(cone: list[ir.Node], tokens: str) -> list[ir.Value]:
    """States that the cone reads and does not compute."""
    read = (value for node in cone for value in node.inputs)
    states = (
        value
        for value in read
        if value is not None and _is_states(value, tokens) and value.producer() not in cone
    )
    return list(dict.fromkeys(states))


def _select(value: ir.Value, rows: ir.Value, cone: list[ir.Node]) -> None:
    """Gives the cone's nodes the selected rows of a value from outside."""
    gather = ir.node("Gather", [value, rows], attributes={"axis": _TOKEN_AXIS})
    if value.dtype is not None:
        gather.outputs[0].dtype = value.dtype
    producer = value.producer()
    anchor = producer if producer is not None else cone[-1]
    graph = anchor.graph
    assert graph is not None
    graph.insert_after(anchor, gather) if producer is not None else graph.insert_before(anchor, gather)
    for node in cone:
        for position, used in enumerate(node.inputs):
            if used is value:
                node.replace_input_with(position, gather.outputs[0])
