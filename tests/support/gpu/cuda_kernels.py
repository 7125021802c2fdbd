"""What ONNX Runtime's CUDA provider computes, for the operators that graphs are made of.

Of onnxruntime-gpu 1.31.1: its own library, over a CUDA without a GPU (`benchmarks/gpu/without_gpu`), was asked for a
graph of each operator and type at opset 20. LSTM, which needs cuDNN there, is from "Operators implemented by
CUDAExecutionProvider" in docs/OperatorKernels.md of microsoft/onnxruntime, commit 001d12d2; blocks of DequantizeLinear
from core/providers/cuda/tensor/quantize_linear.cc, those of MatMulNBits from
contrib_ops/cuda/quantization/dequantize_blockwise_4bits.cu. A node that is not here runs on the CPU, and what it reads
is copied there; in bfloat16 the CPU has none either, and the graph does not load.
"""

from collections.abc import Iterator

import onnx_ir as ir

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_NOT_BFLOAT16 = _FLOATS - {ir.DataType.BFLOAT16}
_BOOL = frozenset({ir.DataType.BOOL})
_INT64 = frozenset({ir.DataType.INT64})
_INT32 = frozenset({ir.DataType.INT32})
_HALF = _FLOATS - {ir.DataType.FLOAT}
_INDEX = _INT64 | _INT32
_INT8 = frozenset({ir.DataType.INT8})
_UINT8 = frozenset({ir.DataType.UINT8})
_WIDE = frozenset({ir.DataType.DOUBLE})
_NUMBERS = _FLOATS | _WIDE | _INDEX
_COMPARED = _NUMBERS - {ir.DataType.BFLOAT16}
_EXACT = _NOT_BFLOAT16 | _WIDE
_CASTED = _NUMBERS | _BOOL | _INT8 | {ir.DataType.FLOAT8E4M3FN}
_MOVED = _NUMBERS | _BOOL | _INT8

# Types by input; the last of them goes for all that follow.
CUDA_KERNELS: dict[tuple[str, str], tuple[frozenset[ir.DataType], ...]] = {
    **{
        ("", name): (_NUMBERS,)
        for name in ("Abs", "Add", "Div", "Max", "Min", "Mod", "Mul", "Neg", "Pow", "Sign", "Sub")
    },
    **{("", name): (_FLOATS | _WIDE,) for name in ("Erf", "Exp", "Gelu", "IsNaN", "Sqrt")},
    **{
        ("", name): (_FLOATS,)
        for name in ("Gemm", "LayerNormalization", "MatMul", "Relu", "Sigmoid", "Softmax", "Tanh")
    },
    **{
        ("", name): (_EXACT,)
        for name in (
            "ArgMax",
            "Ceil",
            "Cos",
            "Einsum",
            "Floor",
            "Log",
            "Reciprocal",
            "Round",
            "Sin",
            "Softplus",
        )
    },
    **{("", name): (_COMPARED,) for name in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")},
    **{("", name): (_BOOL,) for name in ("And", "Not", "Or", "Xor")},
    **{("", name): (_COMPARED, _INT64) for name in ("CumSum", "ReduceMax", "ReduceMin", "TopK")},
    **{
        ("", name): (_MOVED, _INT64)
        for name in ("Expand", "Reshape", "Slice", "Split", "Squeeze", "Unsqueeze")
    },
    **{("", name): (_MOVED,) for name in ("Concat", "Identity", "Shape", "Transpose", "Trilu")},
    ("", "Cast"): (_CASTED,),
    ("", "Clip"): (_EXACT | _INT64,),
    ("", "ConstantOfShape"): (_INT64,),
    ("", "Conv"): (_EXACT,),
    ("", "DequantizeLinear"): (
        frozenset({ir.DataType.FLOAT8E4M3FN, ir.DataType.INT4, ir.DataType.INT8}),
        _NOT_BFLOAT16,
        _INT8,
    ),
    ("", "Equal"): (_COMPARED | _BOOL,),
    ("", "Gather"): (_MOVED, _INDEX),
    ("", "GatherElements"): (_MOVED, _INDEX),
    ("", "GatherND"): (_FLOATS | _WIDE | _INT64 | _BOOL, _INT64),
    ("", "LSTM"): (_EXACT, _EXACT, _EXACT, _EXACT, _INT32, _EXACT),
    ("", "MatMulInteger"): (_INT8,),
    ("", "Pad"): (_EXACT | _BOOL, _INT64, _EXACT | _BOOL, _INT64),
    ("", "Range"): (_INDEX | {ir.DataType.FLOAT},),
    ("", "ReduceL2"): (_EXACT, _INT64),
    ("", "ReduceLogSumExp"): (_EXACT, _INT64),
    ("", "ReduceMean"): (_FLOATS | _WIDE, _INT64),
    ("", "ReduceSum"): (_NUMBERS, _INT64),
    ("", "ScatterElements"): (_MOVED, _INT64, _MOVED),
    ("", "ScatterND"): (_MOVED, _INT64, _MOVED),
    ("", "SimplifiedLayerNormalization"): (_FLOATS,),
    ("", "Tile"): (_NUMBERS, _INT64),
    ("", "Where"): (_BOOL, _NUMBERS),
    ("com.microsoft", "CausalConvWithState"): (_FLOATS,),
    ("com.microsoft", "FusedMatMul"): (_FLOATS,),
    ("com.microsoft", "GemmFloat8"): (frozenset({ir.DataType.FLOAT8E4M3FN}),),
    # With norms and counts from 1.32 on.
    ("com.microsoft", "GroupQueryAttention"): (
        *(_HALF,) * 5,
        *(_INT32,) * 2,
        *(_HALF,) * 2,
        _INT64,
        *(_HALF,) * 6,
        _INT32,
    ),
    ("com.microsoft", "LinearAttention"): (_FLOATS,),
    ("com.microsoft", "MatMulNBits"): (_FLOATS, _UINT8, _FLOATS, _UINT8 | _FLOATS),
    ("com.microsoft", "MultiHeadAttention"): (_FLOATS,),
    ("com.microsoft", "RotaryEmbedding"): (_FLOATS, _INT64, _FLOATS),
    ("com.microsoft", "SkipSimplifiedLayerNormalization"): (_FLOATS,),
}


def without_kernel(graph: ir.Graph) -> list[str]:
    """The nodes that CUDA does not compute, in words."""
    return [f"{node.domain}:{node.op_type} {reason}" for node in graph for reason in _reasons(node)]


def _reasons(node: ir.Node) -> Iterator[str]:
    allowed = CUDA_KERNELS.get((node.domain, node.op_type))
    if allowed is None:
        yield "is no operator of CUDA"
        return
    for place, value in enumerate(node.inputs):
        if value is not None and value.dtype not in allowed[min(place, len(allowed) - 1)]:
            yield f"reads {value.dtype} in place {place}"
    if node.op_type == "Cast" and node.outputs[0].dtype not in _CASTED:
        yield f"makes {node.outputs[0].dtype}"
    if node.op_type == "DequantizeLinear":
        blocks = "block_size" in node.attributes and node.attributes["block_size"].as_int() > 0
        codes = node.inputs[0]
        if codes is not None and blocks != (codes.dtype == ir.DataType.INT4):
            yield "dequantizes blocks of int4, and whole channels or tensors of all else, alone"
    if node.op_type == "GemmFloat8" and not _is_fp8_product(node):
        yield "multiplies fp8 of two axes, the second transposed, both without scales, to fp32 or fp16"
    if node.op_type == "MatMulNBits" and not _has_blocks(node):
        yield "has blocks of 16 to 256 inputs of 4 or 8 bits"


def _is_fp8_product(node: ir.Node) -> bool:
    """As contrib_ops/cuda/math/gemm_float8.cu has it; cuBLASLt has no such product that gives bfloat16."""
    made, weight = node.outputs[0].dtype, node.inputs[1]
    attributes = {name: node.attributes.get_int(name, 0) for name in ("transA", "transB", "dtype")}
    assert weight is not None
    assert weight.shape is not None
    return (
        len(node.inputs) == 2
        and made in (ir.DataType.FLOAT, ir.DataType.FLOAT16)
        and attributes == {"transA": 0, "transB": 1, "dtype": int(made)}
        and all(isinstance(width, int) and width % 16 == 0 for width in weight.shape)
    )


def _has_blocks(node: ir.Node) -> bool:
    block, bits = (node.attributes[name].as_int() for name in ("block_size", "bits"))
    return block in (16, 32, 64, 128, 256) and bits in (4, 8)
