"""What ONNX Runtime's CUDA provider computes, for the operators that graphs are made of.

From the table "Operators implemented by CUDAExecutionProvider" in docs/OperatorKernels.md of microsoft/onnxruntime,
commit 001d12d2, at opset 21. Blocks of DequantizeLinear: core/providers/cuda/tensor/quantize_linear.cc; of MatMulNBits:
contrib_ops/cuda/quantization/dequantize_blockwise_4bits.cu. For the low-bit operators the CUDA library of
onnxruntime-gpu 1.31.1 names the same types. A node that is not here runs on the CPU, and what it reads is copied there.
"""

from collections.abc import Iterator

import onnx_ir as ir

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_NOT_BFLOAT16 = _FLOATS - {ir.DataType.BFLOAT16}
_INT64 = frozenset({ir.DataType.INT64})
_INDEX = _INT64 | {ir.DataType.INT32}
_INT8 = frozenset({ir.DataType.INT8})
_UINT8 = frozenset({ir.DataType.UINT8})
_CASTED = _FLOATS | {
    ir.DataType.DOUBLE,
    ir.DataType.FLOAT8E4M3FN,
    ir.DataType.INT8,
    ir.DataType.INT32,
    ir.DataType.INT64,
    ir.DataType.BOOL,
}
_MOVED = _FLOATS | {ir.DataType.BOOL, ir.DataType.INT8, ir.DataType.INT64}
_SUMMED = _FLOATS | {ir.DataType.DOUBLE, ir.DataType.INT64}
_COMPARED = _NOT_BFLOAT16 | {ir.DataType.DOUBLE, ir.DataType.INT64}

# Types by input; the last of them goes for all that follow.
CUDA_KERNELS: dict[tuple[str, str], tuple[frozenset[ir.DataType], ...]] = {
    ("", "Abs"): (_SUMMED,),
    ("", "Add"): (_SUMMED,),
    ("", "And"): (frozenset({ir.DataType.BOOL}),),
    ("", "Cast"): (_CASTED,),
    ("", "Clip"): (_NOT_BFLOAT16 | _INT64,),
    ("", "Concat"): (_MOVED,),
    ("", "Cos"): (_NOT_BFLOAT16,),
    ("", "DequantizeLinear"): (
        frozenset({ir.DataType.FLOAT8E4M3FN, ir.DataType.INT4, ir.DataType.INT8}),
        _NOT_BFLOAT16,
        _INT8,
    ),
    ("", "Div"): (_SUMMED,),
    ("", "Equal"): (_COMPARED,),
    ("", "Expand"): (_MOVED, _INT64),
    ("", "Floor"): (_NOT_BFLOAT16 | {ir.DataType.DOUBLE},),
    ("", "Gather"): (_MOVED | {ir.DataType.INT32}, _INDEX),
    ("", "GatherElements"): (_MOVED, _INT64),
    ("", "GatherND"): (_FLOATS | _INT64, _INT64),
    ("", "Gelu"): (_FLOATS,),
    ("", "Gemm"): (_FLOATS,),
    ("", "Greater"): (_COMPARED,),
    ("", "GreaterOrEqual"): (_COMPARED,),
    ("", "LayerNormalization"): (_FLOATS,),
    ("", "LessOrEqual"): (_COMPARED,),
    ("", "Log"): (_NOT_BFLOAT16 | {ir.DataType.DOUBLE},),
    ("", "MatMul"): (_FLOATS,),
    ("", "MatMulInteger"): (_INT8,),
    ("", "Max"): (_FLOATS,),
    ("", "Mul"): (_SUMMED,),
    ("", "ReduceL2"): (_NOT_BFLOAT16, _INT64),
    ("", "ReduceLogSumExp"): (_NOT_BFLOAT16, _INT64),
    ("", "ReduceMax"): (_NOT_BFLOAT16, _INT64),
    ("", "ReduceMean"): (_NOT_BFLOAT16, _INT64),
    ("", "ReduceSum"): (_SUMMED, _INT64),
    ("", "Neg"): (_SUMMED,),
    ("", "Not"): (frozenset({ir.DataType.BOOL}),),
    ("", "Range"): (_INT64,),
    ("", "Relu"): (_FLOATS,),
    ("", "Reshape"): (_MOVED, _INT64),
    ("", "Round"): (_NOT_BFLOAT16,),
    ("", "Shape"): (_MOVED,),
    ("", "Sigmoid"): (_FLOATS,),
    ("", "SimplifiedLayerNormalization"): (_FLOATS,),
    ("", "Sin"): (_NOT_BFLOAT16,),
    ("", "Slice"): (_MOVED, _INT64),
    ("", "Softmax"): (_FLOATS,),
    ("", "Split"): (_MOVED, _INT64),
    ("", "Squeeze"): (_MOVED, _INT64),
    ("", "Sub"): (_SUMMED,),
    ("", "Tanh"): (_FLOATS,),
    ("", "TopK"): (_NOT_BFLOAT16 | _INT64, _INT64),
    ("", "Transpose"): (_MOVED,),
    ("", "Unsqueeze"): (_MOVED, _INT64),
    ("", "Where"): (frozenset({ir.DataType.BOOL}), _SUMMED),
    ("com.microsoft", "FusedMatMul"): (_FLOATS,),
    ("com.microsoft", "GemmFloat8"): (frozenset({ir.DataType.FLOAT8E4M3FN}),),
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
