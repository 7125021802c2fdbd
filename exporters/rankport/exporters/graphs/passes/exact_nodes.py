"""Nodes of a graph that stay in fp32 when the rest goes to half precision.

requires: types on all values; the fp32 graph of a ranker or an item encoder, fused or not, low-bit or not; its inputs
          of the types that they keep.

Rotary angles, cosines and sines; RMS normalizations and softmax where no operator is left that sums in fp32 by itself;
the label head and what is read at markers, so that scores keep apart what half precision would tie; the pooling of
embeddings an encoder makes, and the choice of those a ranker is given in fp32, of which there may be far more than a
pass takes; the average of the last states of prefix and item, and the states that a prefix keeps for it; linear
attention between the products and convolutions around it, and the states that it goes on from, as decays multiply along
a text. Of low-bit layers: how inputs are rounded, as a scale that is off moves every code; 32-bit sums and what scales
them; scales of which half precision has few bits. And what has no operator or no kernel in the half precision, as LSTM
in bfloat16.
"""

from collections.abc import Callable, Container

import numpy as np
import onnx
import onnx_ir as ir

from rankport.exporters.graphs.passes.fusions.norms import find_norms

_PRODUCTS = ("MatMul", "FusedMatMul", "Gemm", "MatMulInteger", "MatMulNBits", "Fp8Product")
_NORMS = ("LayerNormalization", "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization")
_LAST_PRODUCTS = (*_PRODUCTS, *_NORMS, "Conv", "LSTM")
"""Values that a representation is made of last: these sum in fp32."""
PAST_RECURRENT = "past_recurrent_state"
"""Start of the names of inputs that linear attention goes on from."""
_ROUNDING = ("Abs", "Clip", "Div", "Max", "ReduceMax", "Round")
"""What a scale and a code are computed by."""
_CUDA_WITHOUT_BFLOAT16 = frozenset(
    [
        *("ArgMax", "Ceil", "Clip", "CumSum", "DequantizeLinear", "Floor", "Log", "Pad", "Reciprocal"),
        *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
        *("ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMin", "ReduceProd"),
    ]
)
"""Operators that ONNX Runtime 1.31.1 has no kernel for in bfloat16, on CUDA or elsewhere: no graph with one loads."""
_CODES = (ir.DataType.INT8, ir.DataType.INT32, ir.DataType.FLOAT8E4M3FN)
_FLOAT16_ROUNDING = 2.0**-11


def exact_nodes(graph: ir.Graph, half: ir.DataType, *, fused: bool) -> set[ir.Node]:
    """Finds the nodes; `fused`: for ONNX Runtime on CUDA, whose norms and attention sum in fp32 by themselves."""
    norms = find_norms(graph)
    first_of_norms = {norm.inner[0] for norm in norms}
    exact = _rotary(graph) | _head(graph) | _pooling(graph, first_of_norms) | _averages(graph, first_of_norms)
    exact |= _projector(graph, first_of_norms) | _rounding(graph)
    exact |= _linear_attention(graph, ends=_rounding(graph))
    exact |= {node for node in graph if _chooses_embeddings(node)}
    exact |= _small_scales(graph, half)
    exact |= {node for node in graph if _has_no(half, node, graph)}
    if fused and half == ir.DataType.BFLOAT16:
        exact |= {node for node in graph if node.op_type in _CUDA_WITHOUT_BFLOAT16}
    if not fused:
        for norm in norms:
            exact |= set(norm.inner)
        exact |= {node for node in graph if node.op_type == "Softmax"}
    # Of a low-bit label head.
    exact |= {node for node in graph if node.op_type == "DequantizeLinear" and _readers(node) <= exact}
    return exact


def _rotary(graph: ir.Graph) -> set[ir.Node]:
    exact: set[ir.Node] = set()
    for node in graph:
        if node.op_type in ("Cos", "Sin"):
            exact |= _before(node)
    # What scales the tables, as longrope does, before they are read by the layers.
    for node in graph:
        if node.op_type == "Mul" and any(
            value is not None and value.producer() in exact for value in node.inputs
        ):
            others = [value for value in node.inputs if value is not None and value.producer() not in exact]
            if all(value.const_value is not None and value.const_value.size == 1 for value in others):
                exact.add(node)
    return exact


def _head(graph: ir.Graph) -> set[ir.Node]:
    """Collects what lies between the last product and the logits, that product included, and what is told of them."""
    last = _producer_of(graph, "logits")
    if last is None:
        return set()
    told = {node for value in last.outputs for node in _behind(value)}
    return told | _before(last, ends=lambda node: node.op_type in _PRODUCTS)


def _pooling(graph: ir.Graph, norms: set[ir.Node]) -> set[ir.Node]:
    """Collects what lies between the last normalization, or product, and the embeddings, that one included."""
    last = _producer_of(graph, "embeddings")
    return set() if last is None else _back_to_states(last, norms)


def _projector(graph: ir.Graph, norms: set[ir.Node]) -> set[ir.Node]:
    """Collects what lies between the last normalization and the vectors at markers, products and that one included."""
    last = _producer_of(graph, "vectors")
    return set() if last is None else _before(last, ends=lambda made: made in norms or made.op_type in _NORMS)


def _averages(graph: ir.Graph, norms: set[ir.Node]) -> set[ir.Node]:
    """Collects what averages the last states of prefix and item, and makes those that a prefix keeps."""
    kept = _producer_of(graph, "new_states")
    exact = set() if kept is None else _back_to_states(kept, norms)
    past = next((value for value in graph.inputs if value.name == "past_states"), None)
    summed = set() if past is None else _behind(past)
    own = {node for last in summed for node in _back_to_states(last, norms)}
    for node in filter(_is_product, own):
        for value in node.inputs:
            producer = None if value is None else value.producer()
            exact |= set() if producer is None else _back_to_states(producer, norms)
    return exact | own


def _linear_attention(graph: ir.Graph, ends: Container[ir.Node]) -> set[ir.Node]:
    """Collects linear attention, what its inputs are made of, and what reads its states.

    It lies between the last products or convolutions and the next product, norms and gates included: transformers
    computes it in fp32 too. What rounds inputs of products `ends` it on either side: a token's scale goes around them.
    """
    inside = {node for node in graph if node.op_type == "LinearAttention" or _goes_on(node)}
    if inside:
        # Decays along an item, which only what is read of a past state is multiplied by where no delta rule asks.
        inside |= {node for node in graph if node.op_type == "CumSum" and _reads_floats(node)}
    exact = {
        made for node in inside for made in _before(node, ends=lambda made: made in ends or _ends_gates(made))
    }
    exact |= {reader for node in inside for value in node.outputs for reader in _behind(value, ends)}
    return {node for node in exact if not _ends_gates(node)}


def _reads_floats(node: ir.Node) -> bool:
    return node.inputs[0] is not None and node.inputs[0].dtype == ir.DataType.FLOAT


def _goes_on(node: ir.Node) -> bool:
    """Tells whether a node reads carried states of linear attention."""
    return any((value.name or "").startswith(PAST_RECURRENT) for value in node.inputs if value is not None)


def _ends_gates(node: ir.Node) -> bool:
    return (_is_product(node) and not _goes_on(node)) or node.op_type in ("CausalConvWithState", "Conv")


def _is_product(node: ir.Node) -> bool:
    return node.op_type in _PRODUCTS


def _back_to_states(node: ir.Node, norms: set[ir.Node]) -> set[ir.Node]:
    """Collects the node and what it is computed from, the last normalization or product included."""
    return _before(node, ends=lambda made: made in norms or made.op_type in _LAST_PRODUCTS)


def _behind(value: ir.Value, ends: Container[ir.Node] = ()) -> set[ir.Node]:
    """Collects the nodes that are computed from a value, up to the next products, or what `ends` them."""
    cone: set[ir.Node] = set()
    pending = list(value.consumers())
    while pending:
        node = pending.pop()
        if node not in cone and node not in ends and not _is_product(node):
            cone.add(node)
            pending += _readers(node)
    return cone


def _chooses_embeddings(node: ir.Node) -> bool:
    """Tells whether a node gathers rows of embeddings that come in fp32."""
    rows = node.inputs[0] if node.op_type == "Gather" else None
    if rows is None or rows.name != "embeddings":
        return False
    return rows.is_graph_input() and rows.dtype == ir.DataType.FLOAT


def _producer_of(graph: ir.Graph, output: str) -> ir.Node | None:
    value = next((value for value in graph.outputs if value.name == output), None)
    return None if value is None else value.producer()


def _rounding(graph: ir.Graph) -> set[ir.Node]:
    """Collects what makes codes and scales of states, what makes numbers of codes, and the products of both."""
    exact: set[ir.Node] = set()
    for node in graph:
        if _makes_codes(node):
            exact |= _before(node, through=_ROUNDING)
        if node.op_type == "Round":
            exact |= _readers(node)
        if _reads_codes(node):
            exact.add(node)
    products = {reader for node in exact for reader in _readers(node) if reader.op_type == "Mul"}
    makers = {value.producer() for node in products for value in node.inputs if value is not None}
    # A scale may be a row of a table.
    return exact | products | {node for node in makers if node is not None and node.op_type == "Gather"}


def _makes_codes(node: ir.Node) -> bool:
    return node.op_type in ("Round", "QuantizeLinear") or (
        node.op_type == "Cast" and node.outputs[0].dtype in _CODES
    )


def _reads_codes(node: ir.Node) -> bool:
    return node.op_type == "Cast" and node.inputs[0] is not None and node.inputs[0].dtype in _CODES


def _small_scales(graph: ir.Graph, half: ir.DataType) -> set[ir.Node]:
    """Collects what reads scales that half precision does not hold, of fp8 by fp8 the token's factor too."""
    small = {node for node in graph if _loses_scales(node, half)}
    products = [node for node in small if node.op_type == "Fp8Product"]
    return small | {reader for node in products for reader in _readers(node) if reader.op_type == "Mul"}


def _loses_scales(node: ir.Node, half: ir.DataType) -> bool:
    """Tells if float16 moves a weight's scales by more than it rounds: below its normal numbers it has few bits."""
    place = {"DequantizeLinear": 1, "MatMulNBits": 2, "Fp8Product": 2}.get(node.op_type)
    scales = None if place is None else node.inputs[place]
    if scales is None or scales.const_value is None or half != ir.DataType.FLOAT16:
        return False
    values = np.asarray(scales.const_value.numpy())
    lost = values - values.astype(np.float16).astype(values.dtype)
    return bool(np.linalg.norm(lost) > _FLOAT16_ROUNDING * np.linalg.norm(values))


def _has_no(half: ir.DataType, node: ir.Node, graph: ir.Graph) -> bool:
    """Tells whether an input of the node may be in fp32 and not in half precision, by the ONNX standard."""
    if node.domain or not onnx.defs.has(node.op_type):
        return False
    formal = onnx.defs.get_schema(node.op_type, graph.opset_imports[""]).inputs
    return any(
        value is not None
        and value.dtype == ir.DataType.FLOAT
        and f"tensor({half.name.lower()})" not in formal[min(place, len(formal) - 1)].types
        for place, value in enumerate(node.inputs)
    )


def _readers(node: ir.Node) -> set[ir.Node]:
    return {reader for value in node.outputs for reader in value.consumers()}


def _before(
    node: ir.Node,
    *,
    ends: Callable[[ir.Node], bool] = lambda node: False,
    through: tuple[str, ...] | None = None,
) -> set[ir.Node]:
    """Collects the node and what it is computed from: nothing before one that `ends` it, operators `through` only."""
    cone: set[ir.Node] = set()
    pending: list[ir.Node | None] = [node]
    while pending:
        source = pending.pop()
        if (
            source is None
            or source in cone
            or (source is not node and through and source.op_type not in through)
        ):
            continue
        cone.add(source)
        if not ends(source):
            pending += [value.producer() for value in source.inputs if value is not None]
    return cone
