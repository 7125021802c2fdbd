"""Graphs of tokens' states and of rows to select from them, node by node, and their outputs by ONNX Runtime."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import onnxruntime

Shape = tuple[int | str, ...]
RowWise = Callable[["Builder", ir.Value], ir.Value]

TOKENS, FEATURES = 5, 4
STATES: Shape = (1, "tokens", FEATURES)
FLOAT, INT64 = ir.DataType.FLOAT, ir.DataType.INT64
SQUARE = np.random.default_rng(0).normal(size=(FEATURES, FEATURES)).astype(np.float32)
ROW = np.array([1, -2, 0.5, 3], np.float32)


class Builder:
    """A graph of `states` [1, tokens, features] and `rows` [rows], node by node."""

    def __init__(self) -> None:
        self.states = ir.val("states", FLOAT, STATES)
        self.rows = ir.val("rows", INT64, ["rows"])
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []

    def constant(self, data: np.ndarray | float) -> ir.Value:
        tensor = ir.tensor(np.asarray(data, None if isinstance(data, np.ndarray) else np.float32))
        self.constants.append(ir.val(f"c{len(self.constants)}", const_value=tensor))
        return self.constants[-1]

    def split(self, op: str, *inputs: ir.Value, shapes: list[Shape], **attributes: int) -> list[ir.Value]:
        node = ir.node(op, inputs, attributes, num_outputs=len(shapes))
        for position, (value, shape) in enumerate(zip(node.outputs, shapes, strict=True)):
            value.name, value.dtype, value.shape = f"{op}{len(self.nodes)}.{position}", FLOAT, ir.Shape(shape)
        self.nodes.append(node)
        return list(node.outputs)

    def add(self, op: str, *inputs: ir.Value, shape: Shape = STATES, **attributes: int) -> ir.Value:
        return self.split(op, *inputs, shapes=[shape], **attributes)[0]

    def select(self, states: ir.Value) -> ir.Value:
        """`states[:, rows]` as the torch exporter writes it."""
        swap = {"perm": [1, 0, 2]}
        index = ir.node("Unsqueeze", [self.rows, self.constant(np.array([-1]))])
        before = ir.node("Transpose", [states], swap)
        gather = ir.node("GatherND", [before.outputs[0], index.outputs[0]], {"batch_dims": 0})
        after = ir.node("Transpose", gather.outputs, swap)
        self.nodes += [index, before, gather, after]
        return after.outputs[0]

    def model(self, *outputs: ir.Value) -> ir.Model:
        for position, value in enumerate(outputs):
            value.name, value.dtype = f"out{position}", FLOAT
        inputs, opsets = [self.states, self.rows], {"": 20}
        graph = ir.Graph(inputs, outputs, nodes=self.nodes, initializers=self.constants, opset_imports=opsets)
        return ir.Model(graph, ir_version=10)


def run(model: ir.Model) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    states = np.random.default_rng(1).normal(size=(1, TOKENS, FEATURES)).astype(np.float32)
    feeds = {"states": states, "rows": np.array([3, 0, 3, 4])}
    return [np.asarray(output) for output in session.run(None, feeds)]


def product(b: Builder, x: ir.Value) -> ir.Value:
    return b.add("MatMul", x, b.constant(SQUARE))


def layer_norm(b: Builder, x: ir.Value) -> ir.Value:
    return b.add("LayerNormalization", x, b.constant(ROW), b.constant(ROW), axis=-1)
