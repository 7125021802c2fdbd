"""Linear layers whose outputs, or inputs, stand in another order: the same numbers, of low bits too."""

import torch
from torch import Tensor, nn

from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.exporters.quantization.loud import LoudColumns
from rankport.exporters.quantization.weight import QuantizedWeight, whole_blocks


def with_outputs(layer: nn.Module, order: Tensor) -> nn.Module | None:
    """Makes the layer whose output i is the layer's `order[i]`, order [out] int64; None of a layer of another class."""
    if isinstance(layer, QuantizedLinear):
        loud = layer.loud
        return _quantized(
            layer,
            layer.quantized.rows(order),
            None if layer.bias is None else layer.bias[order],
            None if loud is None else LoudColumns(loud.places, loud.weight[order]),
        )
    if type(layer) is not nn.Linear:
        return None
    return _linear(layer.weight[order], None if layer.bias is None else layer.bias[order])


def with_inputs(layer: nn.Module, order: Tensor) -> nn.Module | None:
    """Makes the layer that takes the layer's input `order[i]` as its input i, order [in] int64.

    None of a layer of another class, or where inputs that are rounded by one scale would be parted.
    """
    if isinstance(layer, QuantizedLinear):
        weight, activation = layer.quantized.columns(order), layer.activation
        parted = activation is not None and activation.block and whole_blocks(order, activation.block) is None
        if weight is None or parted:
            return None
        loud = layer.loud
        if loud is not None:
            places, by_place = torch.argsort(order)[loud.places].sort()
            loud = LoudColumns(places, loud.weight[:, by_place].contiguous())
        return _quantized(layer, weight, layer.bias, loud)
    if type(layer) is not nn.Linear:
        return None
    return _linear(layer.weight[:, order], layer.bias)


def _quantized(
    like: QuantizedLinear, weight: QuantizedWeight, bias: Tensor | None, loud: LoudColumns | None
) -> QuantizedLinear:
    layer = QuantizedLinear(weight, bias, like.activation, loud)
    layer.multiplies_fp8 = like.multiplies_fp8
    return layer


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().contiguous(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer
