"""Graph pass: products of float8 by float8 become ONNX Runtime's GemmFloat8, on tokens as one matrix.

requires: nodes `FP8_PRODUCT` (codes [..., in] and weight [out, in], both float8e4m3fn; columns [out]), whose last two
          inputs are initializers; types on all values, in half precision already where that is asked for.
ensures:  y = codes weight^T `STEP` columns, the sum in fp32. The product is rounded to float16 where y is in half
          precision, bfloat16 too, for which cuBLASLt has no such product: `STEP` holds it below its range.
"""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from rankport.exporters.graphs.passes.fusions.matching import made_by, scalar, take_place

FP8_PRODUCT = "rankport.traced::Fp8Product"
"""Domain and operator that stand for it while a graph is traced."""

STEP = 2.0**-18
"""Factor of the sum, below 1 / 448 squared: no product of `in` codes is above `in`, which float16 holds."""

_LARGEST = 448.0  # of float8e4m3fn
_OPERATOR = ("com.microsoft", "GemmFloat8")
_FLOAT, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16


def expand_fp8_products(model: ir.Model) -> int:
    """Rewrites every such node. Returns how many."""
    domain, operator = FP8_PRODUCT.split("::")
    nodes = [node for node in model.graph if (node.domain, node.op_type) == (domain, operator)]
    rows: dict[ir.Value, _Rows] = {}
    for node in nodes:
        codes = _input(node, 0)
        if codes not in rows:
            rows[codes] = _Rows(codes, _width(node, 1))
        take_place(_product(node, rows[codes]), node.outputs[0])
    if nodes:
        model.opset_imports.pop(domain, None)
        model.opset_imports.setdefault("com.microsoft", 1)
        passes.RemoveUnusedNodesPass()(model)
    return len(nodes)


def multiplies_fp8(graph: ir.Graph) -> bool:
    """Tells a graph that has such products, which no CPU computes."""
    return any((node.domain, node.op_type) == _OPERATOR for node in graph)


def emulate_fp8_products(model: ir.Model) -> None:
    """Rewrites GemmFloat8 for a runtime without it: the same codes multiplied and summed in fp32, rounded as it rounds.

    Raises AssertionError for a form of the operator that `expand_fp8_products` does not write.
    """
    for node in [node for node in model.graph if (node.domain, node.op_type) == _OPERATOR]:
        assert node.attributes["transB"].as_int() == 1, node.name
        assert len(node.inputs) == 2, node.name
        writer = _Writer(node)
        wide = [writer.put("Cast", _FLOAT, _input(node, place), to=int(_FLOAT)) for place in (0, 1)]
        alpha, made = node.attributes["alpha"].as_float(), node.outputs[0].dtype
        product = writer.put("Gemm", _FLOAT, *wide, transB=1, alpha=alpha)
        if made != _FLOAT:
            assert made is not None
            product = writer.put("Cast", made, product, to=int(made))
        take_place(product, node.outputs[0])
    passes.RemoveUnusedNodesPass()(model)


class _Writer:
    """Puts nodes before another."""

    def __init__(self, before: ir.Node) -> None:
        assert before.graph is not None
        self._graph, self._before = before.graph, before

    def put(
        self, operator: str, made: ir.DataType, /, *inputs: ir.Value, domain: str = "", **attributes: float
    ) -> ir.Value:
        """Adds a node; its output."""
        node = ir.node(operator, list(inputs), attributes, domain=domain)
        self._graph.insert_before(self._before, node)
        node.outputs[0].type = ir.TensorType(made)
        return node.outputs[0]

    def numbers(self, *numbers: int) -> ir.Value:
        """Finds or adds an initializer [numbers] int64."""
        name = f"fp8_products.{'_'.join(map(str, numbers))}"
        if name not in self._graph.initializers:
            tensor = ir.tensor(np.array(numbers, np.int64), name=name)
            self._graph.register_initializer(ir.val(name, const_value=tensor))
        return self._graph.initializers[name]


class _Rows:
    """Codes as one matrix, which products of the same states share. States are reshaped before they are narrowed."""

    def __init__(self, codes: ir.Value, width: int) -> None:
        cast = codes.producer()
        assert cast is not None
        assert cast.op_type == "Cast", codes.name
        states, writer = _input(cast, 0), _Writer(cast)
        clip = made_by(states, "Clip")
        if clip is not None and _clips_to_the_grid(clip):
            states = _input(clip, 0)  # narrowing does so itself
        assert states.dtype is not None
        assert codes.dtype is not None
        rows = writer.put("Reshape", states.dtype, states, writer.numbers(-1, width))
        self.matrix = writer.put("Cast", codes.dtype, rows, to=int(codes.dtype))  # [tokens, in]
        self.sizes = writer.put("Shape", ir.DataType.INT64, states, end=-1)  # the states' own but the last


def _product(node: ir.Node, rows: _Rows) -> ir.Value:
    weight, columns = _input(node, 1), _input(node, 2)
    wanted, writer, out = node.outputs[0].dtype, _Writer(node), _width(node, 0)
    assert wanted is not None
    made = _FLOAT if wanted == _FLOAT else _HALF
    product = writer.put(
        _OPERATOR[1], made, rows.matrix, weight, domain=_OPERATOR[0], transB=1, alpha=STEP, dtype=int(made)
    )
    sizes = writer.put("Concat", ir.DataType.INT64, rows.sizes, writer.numbers(out), axis=0)
    product = writer.put("Reshape", made, product, sizes)
    if made != wanted:
        product = writer.put("Cast", wanted, product, to=int(wanted))
    return writer.put("Mul", wanted, product, columns)


def _clips_to_the_grid(clip: ir.Node) -> bool:
    return len(clip.inputs) == 3 and [scalar(bound) for bound in clip.inputs[1:]] == [-_LARGEST, _LARGEST]


def _width(node: ir.Node, axis: int) -> int:
    shape = _input(node, 1).shape
    assert shape is not None
    width = shape[axis]
    assert isinstance(width, int)
    return width


def _input(node: ir.Node, place: int) -> ir.Value:
    value = node.inputs[place]
    assert value is not None
    return value
