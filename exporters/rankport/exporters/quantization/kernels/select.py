"""Which kernel computes a quantized layer in the exported graph: one explicit choice a target."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from rankport.exporters.quantization.kernels.dequantize import DequantizeKernel
from rankport.exporters.quantization.kernels.integer import IntegerKernel
from rankport.exporters.quantization.kernels.nbits import NBitsKernel
from rankport.exporters.quantization.kernels.qdq import QdqKernel, QdqTable
from rankport.exporters.quantization.linear import QuantizedEmbedding, QuantizedLinear
from rankport.runtime.manifest import Target


@contextmanager
def graph_kernels(model: nn.Module, target: Target = "onnx-cpu") -> Iterator[None]:
    """While open, quantized layers compute through the operators of the exported graph, and can only be traced."""
    layers = [layer for layer in model.modules() if isinstance(layer, QuantizedLinear | QuantizedEmbedding)]
    try:
        for layer in layers:
            layer.kernel = kernel_of(layer, target)
        yield
    finally:
        for layer in layers:
            layer.kernel = None


def kernel_of(layer: QuantizedLinear | QuantizedEmbedding, target: Target = "onnx-cpu") -> nn.Module | None:
    """Of a target: the fastest kernel that computes exactly the layer's maths. None: the layer's own operators."""
    if isinstance(layer, QuantizedEmbedding):
        return QdqTable(layer.codes, layer.scales) if target == "tensorrt" else None
    if target == "tensorrt":
        return QdqKernel(layer.quantized, layer.activation)
    if NBitsKernel.fits(layer.quantized, layer.activation):
        return NBitsKernel(layer.quantized, layer.activation)
    if IntegerKernel.fits(layer.quantized, layer.activation):
        return IntegerKernel(layer.quantized, layer.activation)
    return DequantizeKernel(layer.quantized, layer.activation)
