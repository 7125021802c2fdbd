"""Row-wise nodes: what commutes with a selection of token rows, f(x)[:, rows] = f(x[:, rows]).

States are [any, tokens, features]; nodes that mix tokens, or that others read too, keep all rows.
"""

import onnx_ir as ir
import onnx_ir.passes.common as passes

_TOKEN_AXIS = 1  # of states [any, tokens, features]
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
_LOW_BIT_PRODUCTS = frozenset(
    {"Fp8Product", "LoudProduct", "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits"}
)


def compute_rows_only(model: ir.Model, states: ir.Value, rows: ir.Value, *, own: bool = False) -> int:
    """Has the row-wise nodes above `states` run on `rows` alone, gathered as early as can be.

    `rows` [rows] are the same of all texts, or with `own` those of each, [texts, rows, 1]. `states` are read by nothing
    but a selection of those rows. Afterwards they have only them, and their number is unknown. Returns how many nodes
    run on fewer rows.
    """
    assert states.shape is not None
    tokens = str(states.shape[_TOKEN_AXIS])
    cone = _row_wise_cone(model.graph, states, tokens)
    frontier = _frontier(cone, tokens)
    if own and any(str(value.shape[0]) != str(states.shape[0]) for value in frontier if value.shape):
        return 0  # some are the same of all texts, and have no rows of each
    for value in frontier:
        _select(value, rows, cone, own=own)
    for node in cone:
        for output in node.outputs:
            output.shape = _of_rows(output)
    return len(cone)


def _of_rows(states: ir.Value) -> ir.Shape | None:
    """Gives the shape of some rows of states [any, tokens, features]: passes behind read how wide they are."""
    return None if states.shape is None else ir.Shape([states.shape[0], None, *states.shape[2:]])


def has_token_rows(value: ir.Value) -> bool:
    """Tells [any, tokens, features] with a dynamic token axis."""
    shape = value.shape
    return shape is not None and len(shape) == 3 and not isinstance(shape[_TOKEN_AXIS], int)


def only_reader(value: ir.Value, outputs: set[ir.Value]) -> ir.Node | None:
    """Finds the node that reads the value, if it is the only one and the graph does not give the value away."""
    readers = list(value.consumers())
    return readers[0] if len(readers) == 1 and value not in outputs else None


def settle(model: ir.Model) -> None:
    """Drops what nobody reads any more, and puts the nodes in order."""
    passes.RemoveUnusedNodesPass()(model)
    passes.TopologicalSortPass()(model)


def _row_wise_cone(graph: ir.Graph, states: ir.Value, tokens: str) -> list[ir.Node]:
    """Collects row-wise nodes whose results nobody but the selection needs, last first."""
    members = set(states.consumers())
    cone: list[ir.Node] = []
    outputs = set(graph.outputs)
    for node in reversed(list(graph)):
        users = {user for value in node.outputs for user in value.consumers()}
        if users and users <= members and not outputs & set(node.outputs) and _is_row_wise(node, tokens):
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


def _is_states(value: ir.Value | None, tokens: str) -> bool:
    """Tells computed [any, tokens, features]. The token axis must be the selection's own: another may have size 1."""
    if value is None or _is_constant(value) or not has_token_rows(value):
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


def _select(value: ir.Value, rows: ir.Value, cone: list[ir.Node], *, own: bool) -> None:
    """Gives the cone's nodes the selected rows of a value from outside."""
    if own:
        gather = ir.node("GatherND", [value, rows], attributes={"batch_dims": 1})
    else:
        gather = ir.node("Gather", [value, rows], attributes={"axis": _TOKEN_AXIS})
    if value.dtype is not None:
        gather.outputs[0].dtype = value.dtype
    gather.outputs[0].shape = _of_rows(value)
    producer = value.producer()
    anchor = producer if producer is not None else cone[-1]
    graph = anchor.graph
    assert graph is not None
    graph.insert_after(anchor, gather) if producer is not None else graph.insert_before(anchor, gather)
    for node in cone:
        for position, used in enumerate(node.inputs):
            if used is value:
                node.replace_input_with(position, gather.outputs[0])
