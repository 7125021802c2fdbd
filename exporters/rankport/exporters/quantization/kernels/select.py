"""The kernel that computes a quantized layer in the exported graph: one explicit choice a target."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from torch import Tensor, nn

from rankport.exporters.quantization.activation import Activation
from rankport.exporters.quantization.experts import RoundedInputs, low_bits_of
from rankport.exporters.quantization.kernels.dequantize import DequantizeKernel
from rankport.exporters.quantization.kernels.experts import ExpertsKernel
from rankport.exporters.quantization.kernels.float_blocks import FloatBlocksKernel
from rankport.exporters.quantization.kernels.fp8 import Fp8Kernel
from rankport.exporters.quantization.kernels.integer import IntegerKernel
from rankport.exporters.quantization.kernels.loud import BesideLoud, LoudKernel
from rankport.exporters.quantization.kernels.nbits import NBitsKernel, NBitsTable
from rankport.exporters.quantization.kernels.qdq import QdqKernel, QdqTable
from rankport.exporters.quantization.kernels.signed import SignedKernel
from rankport.exporters.quantization.linear import QuantizedEmbedding, QuantizedLinear, QuantizedTable
from rankport.exporters.quantization.weight import QuantizedWeight
from rankport.exporters.temporary_attributes import temporary_attributes
from rankport.protos.errors import CheckpointError
from rankport.protos.wording import listed
from rankport.runtime.bundle.manifest import Target


def choose_fp8_products(model: nn.Module) -> int:
    """Has the layers whose weights and inputs are both in fp8 multiply them as they are on CUDA. Returns how many.

    What they compute stays what it is: others, as of fp8 weights alone, are dequantized as before.
    Raises CheckpointError if there is none.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, QuantizedLinear)]
    fitting = [
        layer for layer in layers if layer.loud is None and Fp8Kernel.fits(layer.quantized, layer.activation)
    ]
    if not fitting:
        had = sorted({_words(layer) for layer in layers})
        raise CheckpointError(
            "--fp8-products: no linear layer has weights in fp8 of a scale a channel, inputs rounded to fp8, and "
            f"widths that 16 divides; this model has {listed(had, 'no quantized layers')}: add --quantize fp8 to a "
            "model in full precision, or leave --fp8-products out"
        )
    for layer in fitting:
        layer.multiplies_fp8 = True
    return len(fitting)


def _words(layer: QuantizedLinear) -> str:
    weight = layer.quantized
    return (
        f"{weight.type}{weight.bits} of {weight.in_features} to {weight.out_features} (inputs {layer.inputs})"
    )


@contextmanager
def graph_kernels(model: nn.Module, target: Target = "onnx-cpu") -> Iterator[None]:
    """Has quantized layers, while open, compute through the exported graph's operators; they can only be traced."""
    kinds = (QuantizedLinear, QuantizedEmbedding, QuantizedTable)
    with ExitStack() as stack:
        for layer in model.modules():
            if isinstance(layer, kinds):
                stack.enter_context(temporary_attributes(layer, {"kernel": kernel_of(layer, target)}))
            elif (rounding := getattr(layer, "rounding", None)) is not None:
                stack.enter_context(temporary_attributes(layer, {"rounding": _of_experts(rounding, target)}))
            elif target == "onnx-cpu" and (low_bits := low_bits_of(layer)) is not None:
                stack.enter_context(temporary_attributes(layer, {"kernel": ExpertsKernel(layer, low_bits)}))
        yield


def _of_experts(rounding: RoundedInputs, target: Target) -> RoundedInputs:
    """Raises CheckpointError for a target whose operators for it nobody tried."""
    if target == "tensorrt":
        raise CheckpointError(
            f"inputs of experts are rounded ({rounding.states.name}), which is not there for TensorRT: use --target "
            "onnx-cpu or onnx-cuda"
        )
    by_sums = target == "onnx-cpu"
    return replace(
        rounding,
        states=replace(rounding.states, by_sums=by_sums),
        inner=replace(rounding.inner, by_sums=by_sums),
    )


def kernel_of(
    layer: QuantizedLinear | QuantizedEmbedding | QuantizedTable, target: Target = "onnx-cpu"
) -> nn.Module | None:
    """Finds a target's fastest kernel that computes exactly the layer's maths. None: the layer's own operators.

    Raises CheckpointError if the target has none that keeps the weight in low bits.
    """
    if isinstance(layer, QuantizedEmbedding):
        return QdqTable(layer.codes, layer.scales) if target == "tensorrt" else None
    if isinstance(layer, QuantizedTable):
        return NBitsTable(layer.quantized) if NBitsTable.fits(layer.quantized) else None
    weight, activation, loud = layer.quantized, layer.activation, layer.loud
    if target == "onnx-cuda" and layer.multiplies_fp8:
        return Fp8Kernel(weight, activation)
    if loud is None:
        return _product_of(weight, activation, target)
    if target == "onnx-cpu" and activation is not None and LoudKernel.fits(weight, activation):
        return LoudKernel(weight, activation, loud)
    return BesideLoud(_product_of(weight, activation, target), weight.in_features, loud)


def _product_of(weight: QuantizedWeight, activation: Activation | None, target: Target) -> nn.Module:
    if target == "tensorrt":
        if activation is not None and activation.kind == "fp4-block":
            raise CheckpointError(
                "inputs are rounded to fp4 with scales in fp8, for which TensorRT has no operators here: use --target "
                "onnx-cpu or onnx-cuda"
            )
        return QdqKernel(weight, activation)
    if target == "onnx-cuda":
        return _on_cuda(weight, activation)
    # Of 8 bits against inputs that are not rounded ONNX Runtime has no product: it would dequantize in each pass.
    in_low_bits = weight.bits == 4 or activation is not None
    if in_low_bits and NBitsKernel.fits(weight, activation):
        return NBitsKernel(weight, activation)
    if IntegerKernel.fits(weight, activation):
        return IntegerKernel(weight, activation)
    # ONNX Runtime's casts to fp8 take several times as long on a CPU.
    return DequantizeKernel(weight, None if activation is None else replace(activation, by_sums=True))


def _on_cuda(weight: QuantizedWeight, activation: Activation | None) -> nn.Module:
    """Chooses operators with a kernel in ONNX Runtime's CUDA provider: what it lacks runs on the CPU.

    It dequantizes whole channels of int8 and float8, and blocks of int4 that are symmetric: no other blocks, so those
    of float8 get their scales by a product.
    """
    if SignedKernel.fits(weight, activation):
        return SignedKernel(weight, activation)
    if NBitsKernel.fits(weight, None, off_grid=True):
        product = NBitsKernel(weight, None)
        return product if activation is None else _Rounding(activation, product)
    if FloatBlocksKernel.fits(weight):
        return FloatBlocksKernel(weight, activation)
    if weight.groups > 1 and (weight.type == "float" or weight.bits != 4 or weight.zeros is not None):
        raise CheckpointError(
            f"a layer of {weight.in_features} inputs has {weight.bits}-bit {weight.type} weights in {weight.groups} "
            "groups: on CUDA ONNX Runtime has products for groups of equal size, a multiple of 16; use --target "
            "onnx-cpu or tensorrt"
        )
    return DequantizeKernel(weight, activation, int4_channels=False)


class _Rounding(nn.Module):
    """A product of inputs that it does not round itself."""

    def __init__(self, activation: Activation, product: nn.Module) -> None:
        super().__init__()
        self.activation, self.product = activation, product

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., in] -> [..., out], fp32."""
        product: Tensor = self.product(self.activation.rounded(x))
        return product
