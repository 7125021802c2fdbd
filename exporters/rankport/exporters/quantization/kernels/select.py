"""Which kernel computes a quantized layer in the exported graph: one explicit choice a target."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from rankport.exporters.quantization.kernels.dequantize import DequantizeKernel
from rankport.exporters.quantization.kernels.integer import IntegerKernel
from rankport.exporters.quantization.kernels.nbits import NBitsKernel
from rankport.exporters.quantization.linear import QuantizedLinear


@contextmanager
def graph_kernels(model: nn.Module) -> Iterator[None]:
    """While open, quantized layers compute through the operators of the exported graph, and can only be traced."""
    layers = [layer for layer in model.modules() if isinstance(layer, QuantizedLinear)]
    try:
        for layer in layers:
            layer.kernel = kernel_of(layer)
        yield
    finally:
        for layer in layers:
            layer.kernel = None


def kernel_of(layer: QuantizedLinear) -> nn.Module:
    """The fastest kernel of ONNX Runtime on the CPU that computes exactly the layer's maths."""
    if NBitsKernel.fits(layer.quantized, layer.activation):
        return NBitsKernel(layer.quantized, layer.activation)
    if IntegerKernel.fits(layer.quantized, layer.activation):
        return IntegerKernel(layer.quantized, layer.activation)
    return DequantizeKernel(layer.quantized, layer.activation)
