"""Graph pass: int8 products with loud columns beside them become ONNX Runtime's operators, on tokens as one matrix.

requires: nodes `LOUD_PRODUCT` (states [..., in], codes [in, out] int8, scales [out], quiet [in], places [columns],
          weight [columns, out]), whose constants are initializers; passes that select rows of states have run.
ensures:  y = round(x * quiet / s) s codes scales + x[places] weight, with s = max |x * quiet| / divisor of each token.
          Products of the same states and places share what is made of them. Two dimensions let one operator round
          each token by its own step, and another add the loud columns to the product.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
from numpy.typing import NDArray

from rankport.exporters.graphs.passes.fusions.matching import take_place

LOUD_PRODUCT = "rankport.traced::LoudProduct"
"""Domain and operator that stand for it while a graph is traced."""

_ZERO = 128
"""Codes of activations are stored unsigned around this: x86 multiplies unsigned by signed bytes."""


def expand_loud_products(model: ir.Model) -> int:
    """Rewrites every such node. Returns how many."""
    domain, operator = LOUD_PRODUCT.split("::")
    nodes = [node for node in model.graph if (node.domain, node.op_type) == (domain, operator)]
    if not nodes:
        return 0
    rounded: dict[tuple[int, tuple[int, ...]], _Rounded] = {}
    for node in nodes:
        key = (id(node.inputs[0]), tuple(_numpy(node.inputs[4]).tolist()))
        writer = _Writer(model.graph, node)
        if key not in rounded:
            rounded[key] = _rounded(writer, node)
        take_place(_product(writer, node, rounded[key]), node.outputs[0])
    model.opset_imports.pop(domain, None)
    model.opset_imports.setdefault("com.microsoft", 1)
    passes.RemoveUnusedNodesPass()(model)
    return len(nodes)


@dataclass(frozen=True, slots=True)
class _Rounded:
    """Holds what products of the same states share."""

    codes: ir.Value  # [tokens, in] uint8
    steps: ir.Value  # [tokens, 1]
    loud: ir.Value  # [tokens, columns]
    sizes: ir.Value  # the states' own but the last


@dataclass(slots=True)
class _Writer:
    """Puts nodes before another."""

    graph: ir.Graph
    before: ir.Node

    def put(self, operator: str, *inputs: ir.Value, domain: str = "", **attributes: int) -> ir.Value:
        """Adds a node; its output."""
        node = ir.node(operator, list(inputs), attributes, domain=domain)
        self.graph.insert_before(self.before, node)
        return node.outputs[0]

    def constant(self, name: str, value: NDArray[np.generic]) -> ir.Value:
        """Finds or adds an initializer."""
        name = f"loud_products.{name}"
        if name not in self.graph.initializers:
            self.graph.register_initializer(ir.val(name, const_value=ir.tensor(value, name=name)))
        return self.graph.initializers[name]


def _rounded(writer: _Writer, node: ir.Node) -> _Rounded:
    states, quiet, places = _of(node, 0), _of(node, 3), _of(node, 4)
    width, last = len(_numpy(quiet)), writer.constant("last", np.array([-1]))
    rows = writer.put("Reshape", states, writer.constant(f"rows_of_{width}", np.array([-1, width])))
    own = writer.put("Mul", rows, quiet)
    high = writer.put("ReduceMax", own, last, keepdims=1)
    low = writer.put("Neg", writer.put("ReduceMin", own, last, keepdims=1))
    divisor = node.attributes["divisor"].as_float()
    least = node.attributes["least_scale"].as_float()
    step = writer.put(
        "Div",
        writer.put("Max", high, low),
        writer.constant(f"divisor_{divisor}", np.array(divisor, np.float32)),
    )
    steps = writer.put("Max", step, writer.constant(f"least_{least}", np.array(least, np.float32)))
    flat = writer.put("Reshape", steps, last)
    zeros = writer.put("Expand", _zero(writer), writer.put("Shape", flat))
    return _Rounded(
        codes=writer.put("QuantizeLinear", rows, flat, zeros, axis=0),
        steps=steps,
        loud=writer.put("Gather", rows, places, axis=1),
        sizes=writer.put("Shape", states, end=-1),
    )


def _product(writer: _Writer, node: ir.Node, of: _Rounded) -> ir.Value:
    codes, scales, weight = _of(node, 1), _of(node, 2), _of(node, 5)
    width = len(_numpy(scales))
    one = writer.constant("one", np.array(1, np.float32))
    product = writer.put(
        "MatMulIntegerToFloat", of.codes, codes, one, scales, _zero(writer), domain="com.microsoft"
    )
    rows = writer.put("Gemm", of.loud, weight, writer.put("Mul", product, of.steps))
    sizes = writer.put("Concat", of.sizes, writer.constant(f"width_{width}", np.array([width])), axis=0)
    return writer.put("Reshape", rows, sizes)


def _zero(writer: _Writer) -> ir.Value:
    return writer.constant("zero", np.array(_ZERO, np.uint8))


def _of(node: ir.Node, place: int) -> ir.Value:
    value = node.inputs[place]
    assert value is not None
    return value


def _numpy(value: ir.Value | None) -> NDArray[np.generic]:
    assert value is not None
    assert value.const_value is not None
    array: NDArray[np.generic] = value.const_value.numpy()
    return array
