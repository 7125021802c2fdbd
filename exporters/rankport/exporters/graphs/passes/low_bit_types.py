"""Graph pass: gives 4-bit codes their type, which torch does not have.

requires: nodes `DEQUANTIZE_INT4` of initializers: int8 codes from -8 to 7, fp32 scales; the attributes of ONNX's
          DequantizeLinear.
ensures:  DequantizeLinear of INT4 initializers, two codes a byte.
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

DEQUANTIZE_INT4 = "rankport::DequantizeInt4"
"""Domain and operator that stand for it while a graph is traced."""


def store_int4(model: ir.Model) -> int:
    """Rewrites every such node. Returns how many."""
    domain, operator = DEQUANTIZE_INT4.split("::")
    nodes = [node for node in model.graph if (node.domain, node.op_type) == (domain, operator)]
    for codes in dict.fromkeys(node.inputs[0] for node in nodes):
        assert codes is not None
        _retype(codes)
    for node in nodes:
        node.domain, node.op_type, node.version = "", "DequantizeLinear", None
    model.opset_imports.pop(domain, None)
    return len(nodes)


def _retype(codes: ir.Value) -> None:
    tensor = codes.const_value
    assert tensor is not None, codes.name
    packed = ir.PackedTensor(
        _packed(tensor.numpy()), ir.DataType.INT4, shape=tensor.numpy().shape, name=codes.name
    )
    codes.const_value, codes.type = packed, ir.TensorType(ir.DataType.INT4)


def _packed(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Packs two values a byte, the first in the lower half, as ONNX stores them. [ceil(size / 2)]"""
    assert codes.dtype == np.int8
    assert codes.size == 0 or (codes.min() >= -8 and codes.max() <= 7)
    flat = codes.reshape(-1).view(np.uint8) & 0xF
    even = np.append(flat, np.zeros(flat.size % 2, np.uint8))
    packed: NDArray[np.uint8] = even[0::2] | (even[1::2] << 4)
    return packed
