"""Weights stored as codes and read as what they stand for.

So are codes without a grid of equal steps, which low-bit products need, and bases of adapters. Owns the loading of a
model from them as from any other. What codes stand for, each form's loader knows.
"""

import dataclasses
from collections.abc import Mapping

from torch import nn

from rankport.exporters.checkpoints.forms.fill import fill
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel, parse_config
from rankport.exporters.checkpoints.forms.made_tensors import MadeTensor, with_made
from rankport.exporters.checkpoints.forms.pruning import pruned
from rankport.exporters.checkpoints.forms.skeleton import skeleton
from rankport.exporters.quantization.experts import low_bits_of
from rankport.exporters.quantization.facts import QuantizationFacts
from rankport.exporters.quantization.linear import QuantizedLinear, set_module
from rankport.protos.errors import CheckpointError
from rankport.protos.wording import be, counted

_FIELD = "quantization_config"
_IN_FULL = "and read as the full precision that they stand for"


def load_in_full(
    folder: CheckpointFolder, head: Head, meant: Mapping[str, MadeTensor], stored_as: str
) -> LoadedModel:
    """Loads the model with the tensors `meant`, by name, and a note of the words in which they are stored.

    Raises CheckpointError naming the tensor or field at fault.
    """
    raw = {key: value for key, value in folder.raw.items() if key != _FIELD}
    whole = with_made(dataclasses.replace(folder, raw=raw), meant)
    loaded = pruned.load(whole, head) or LoadedModel(fill(skeleton(parse_config(whole), head), whole, head))
    note = f"{stored_as}, {_IN_FULL}"
    return dataclasses.replace(loaded, notes=(*loaded.notes, note))


def dequantize(model: nn.Module, stored: QuantizationFacts) -> str:
    """Makes the low-bit layers of a model what their codes stand for, in place; says so in a note.

    Raises CheckpointError for a layer whose inputs are rounded, which no weight stands for.
    """
    count = 0
    for name, layer in list(model.named_modules()):
        rounding = getattr(layer, "rounding", None)
        if rounding is not None:
            raise _rounds_inputs(name, rounding.stated.activations)
        if low_bits_of(layer) is not None:
            layer.low_bits = None  # the weights beside them are what they stand for
            count += 1
        if isinstance(layer, QuantizedLinear):
            if layer.activation is not None:
                raise _rounds_inputs(name, layer.inputs)
            set_module(model, name, _linear(layer))
            count += 1
    return (
        f"{counted(count, 'layer')} of the base {be(count)} stored in low bits ({stored.method}), {_IN_FULL}"
    )


def _linear(layer: QuantizedLinear) -> nn.Linear:
    linear = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
    linear.weight = nn.Parameter(layer.quantized.dequantized(), requires_grad=False)
    linear.bias = layer.bias  # type: ignore[assignment]
    return linear


def _rounds_inputs(name: str, inputs: str) -> CheckpointError:
    return CheckpointError(
        f"layer {name!r} of the adapter's base rounds its inputs ({inputs}), and no weight stands for that: an adapter "
        "merges into full precision only, give the checkpoint that the base was quantized from with --base"
    )
