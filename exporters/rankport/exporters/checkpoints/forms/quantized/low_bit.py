"""A skeleton whose quantized layers are low-bit: what the loaders of quantized checkpoints share.

Owns the replacing of layers, the strict reading of their tensors, and the facts. How a layer is stored, each form's
loader knows. No full-precision copy of a quantized weight is ever made, but of experts, which transformers' own code
reads as the reference.
"""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import nn

from rankport.exporters.checkpoints.config.heads import head_name
from rankport.exporters.checkpoints.forms.fill import fill, local_name
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel, parse_config
from rankport.exporters.checkpoints.forms.made_tensors import with_made
from rankport.exporters.checkpoints.forms.pruning.pruned import describe, fit_widths
from rankport.exporters.checkpoints.forms.pruning.pruned_config import (
    by_tensors,
    parse_pruned,
    require_layers,
)
from rankport.exporters.checkpoints.forms.pruning.whole_shapes import WholeShapes
from rankport.exporters.checkpoints.forms.quantized.low_bit_experts import keep_stacks, made_of, read_stacks
from rankport.exporters.checkpoints.forms.skeleton import skeleton
from rankport.exporters.checkpoints.forms.stored_experts import ExpertNames, Matrices, with_stacked_experts
from rankport.exporters.quantization.experts import schemes_of
from rankport.exporters.quantization.facts import QuantizationFacts, SchemeFacts
from rankport.exporters.quantization.linear import QuantizedLinear, set_module
from rankport.exporters.quantization.quantize import kept_in
from rankport.protos.errors import CheckpointError
from rankport.protos.wording import counted, type_told

FULL_PRECISION = "export the original in full precision, with --quantize if low bits are wanted"


@dataclass(frozen=True, slots=True)
class LowBitLayer:
    """One layer as stored, and the stored tensors that it is made of."""

    linear: QuantizedLinear
    taken: tuple[str, ...]


Read = Callable[[str, nn.Linear], LowBitLayer]
"""Makes the layer stored under a name, in the place of the skeleton's layer."""


def load_low_bit(
    folder: CheckpointFolder,
    head: Head,
    layers: Iterable[str],
    read: Read,
    packed_shape: Callable[[str], tuple[int, int] | None],
    empty: nn.Module | None = None,
) -> tuple[nn.Module, set[str], tuple[str, ...]]:
    """Loads the model, its `layers` (stored names) low-bit and all else filled; gives their names, and notes on widths.

    `packed_shape` tells [out, in] of a layer that is stored packed, None where that is open (`read` says why). `empty`
    is the skeleton to fill, where it is none that config and widths tell.

    Raises CheckpointError naming the tensor or field at fault.
    """
    stored_layers = tuple(layers)
    model, notes = (
        _pruned_skeleton(folder, head, stored_layers, packed_shape) if empty is None else (empty, ())
    )
    places = {name for name, _ in model.named_modules()}
    taken: set[str] = set()
    replaced: set[str] = set()
    experts: dict[str, Matrices] = {}
    names = ExpertNames(model)
    for stored in stored_layers:
        place = local_name(model, places, stored)
        if place is None and (expert := names.place(f"{stored}.weight")) is not None:
            experts.setdefault(expert.stack, {})[expert.expert, expert.part] = stored
            continue
        if place is None:
            if head == "none" and head_name(stored) is not None:
                continue  # of a head that a bare body leaves behind
            raise CheckpointError(_no_place(stored))
        layer = read(stored, _linear_at(model, place, stored))
        set_module(model, place, layer.linear)
        taken.update(layer.taken)
        replaced.add(place)
    stacks = read_stacks(model, experts, lambda stored, linear: _parts(read(stored, linear)))
    whole = with_stacked_experts(with_made(folder, made_of(model, stacks)), model)
    filled = fill(model, whole, head, taken)
    left = keep_stacks(filled, stacks)
    if left:
        words = (
            f"experts of {counted(left, 'layer')} are read as the full precision that their codes stand for"
        )
        notes = (*notes, f"{words}: no operator takes codes of their form")
    return filled, replaced, notes


def _parts(layer: LowBitLayer) -> tuple[QuantizedLinear, tuple[str, ...]]:
    return layer.linear, layer.taken


def packed_layers(folder: CheckpointFolder, said: str) -> list[str]:
    """Lists stored layers of codes in words. Raises CheckpointError where there is none, for what was `said`."""
    names = [name for name in folder.tensors.names if name.endswith(".qweight")]
    if not names:
        refuse_full_precision(folder, said, "tensor named '...qweight'")
    return [name.removesuffix(".qweight") for name in names]


def float8_layers(folder: CheckpointFolder, said: str, stated_in: str = "quantization_config") -> list[str]:
    """Lists stored layers of float8 weights. Raises as `packed_layers`."""
    weights = (name for name in folder.tensors.names if name.endswith(".weight"))
    names = [name for name in weights if folder.tensors.dtype(name) == torch.float8_e4m3fn]
    if not names:
        refuse_full_precision(folder, said, "float8 weight", stated_in)
    return [name.removesuffix(".weight") for name in names]


def refuse_full_precision(
    folder: CheckpointFolder, said: str, part: str, stated_in: str = "quantization_config"
) -> NoReturn:
    """Raises CheckpointError for weights of which low bits are `said`, and no such part is stored."""
    raise CheckpointError(
        f"{said}, and checkpoint {str(folder.path)!r} holds no {part}: remove {stated_in} if the weights are in full "
        "precision"
    )


def _no_place(stored: str) -> str:
    if ".experts." in stored:
        return (
            f"layer {stored!r} is an expert's and quantized, and the model of its config stacks no experts of that "
            f"name: {FULL_PRECISION}"
        )
    return (
        f"the checkpoint holds quantized layer {stored!r}, which its config has no place for: the model would run "
        "without it"
    )


def _pruned_skeleton(
    folder: CheckpointFolder,
    head: Head,
    layers: tuple[str, ...],
    packed_shape: Callable[[str], tuple[int, int] | None],
) -> tuple[nn.Module, tuple[str, ...]]:
    """Makes the skeleton as wide as what is stored for its layers: checkpoints come pruned and quantized at once."""
    require_layers(folder, head)
    packed = {layer: shape for layer in layers if (shape := packed_shape(layer)) is not None}
    unquantized = dataclasses.replace(folder, tensors=WholeShapes(folder.tensors, packed))
    try:
        model = skeleton(parse_config(unquantized), head)
        if not fit_widths(model, unquantized.tensors):
            return model, ()
    except CheckpointError:
        pass  # raised again below, where pruning does not explain it
    unquantized, notes = by_tensors(unquantized)
    model = skeleton(parse_pruned(unquantized), head)
    return model, (*notes, *describe(fit_widths(model, unquantized.tensors)))


def loaded(model: nn.Module, method: str, format: str, notes: tuple[str, ...] = ()) -> LoadedModel:
    """Makes the result of a loader, its facts read off the model."""
    return LoadedModel(model, facts_of(model, method, format), notes)


def facts_of(model: nn.Module, method: str, format: str) -> QuantizationFacts:
    """Says what of the model is low-bit, and which weight matrices are not."""
    counts: dict[tuple[int, str, int | None, bool, str], tuple[int, int]] = {}
    head = model.get_output_embeddings()  # type: ignore[operator]
    for module in model.modules():
        # Of a head the graph has the label rows only.
        if isinstance(module, QuantizedLinear) and module is not head:
            weight, activation = module.quantized, module.activation
            asked = "none" if activation is None else activation.name
            stored = (4, "float") if weight.is_fp4 else (weight.bits, weight.type)
            key = (*stored, weight.group_size, weight.zeros is None, asked)
            layers, weights = counts.get(key, (0, 0))
            counts[key] = (layers + 1, weights + weight.codes.numel())
    schemes = tuple(
        SchemeFacts(
            part="linear",
            layers=layers,
            weights=weights,
            bits=bits,
            type=type,
            group_size=group_size,
            symmetric=symmetric,
            activations=activations,
        )
        for (bits, type, group_size, symmetric, activations), (layers, weights) in counts.items()
    )
    return QuantizationFacts(method, format, (*schemes, *schemes_of(model)), kept_in(model))


def _linear_at(model: nn.Module, place: str, stored: str) -> nn.Linear:
    layer = model.get_submodule(place)
    if not isinstance(layer, nn.Linear):
        raise CheckpointError(
            f"layer {stored!r} is quantized and {type_told(layer)}: only Linear layers are supported low-bit, "
            "quantize the others not at all"
        )
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    if f"{place}.weight" in tied:
        raise CheckpointError(
            f"layer {stored!r} is quantized on its own, and the config ties it to the embeddings: set "
            "tie_word_embeddings to false, or leave it out of the quantization"
        )
    return layer
