"""GPTQ checkpoints, as optimum, GPT-QModel and AutoGPTQ write them.

W[o, i] = scales[g, o] * (q[i, o] - z[g, o]) with g = g_idx[i] (gptqmodel/nn_modules/qlinear/__init__.py, 7.7), where
q and z are unsigned and packed into int32, the lowest bits first: qweight [in * bits / 32, out], qzeros
[groups, out * bits / 32]. Format `gptq` stores every zero point less one, `gptq_v2` as it is. Codes of 3 bits lie
across words; where 5 to 7 are, GPT-QModel parts them into planes (`gptq_p`), which is not read.
"""

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel
from rankport.exporters.checkpoints.forms.quantized.gptq_config import AS_IT_IS, FIELD, LESS_ONE, GptqConfig
from rankport.exporters.checkpoints.forms.quantized.low_bit import (
    LowBitLayer,
    load_low_bit,
    loaded,
    packed_layers,
)
from rankport.exporters.checkpoints.forms.quantized.packing import kept_bits, unpack_words, widened, words
from rankport.exporters.checkpoints.forms.quantized.stored_parts import (
    bias_of,
    checked_groups,
    read_scales,
    read_tensor,
    require_full_groups,
)
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.exporters.quantization.weight import QuantizedWeight
from rankport.protos.errors import CheckpointError

METHOD = "gptq"
_ONE_EACH = {2: 0x55555555, 4: 0x11111111, 8: 0x01010101}
"""1 in every code of a word that holds whole codes."""


def matches(folder: CheckpointFolder) -> bool:
    """Goes by `quantization_config.quant_method`."""
    return folder.quantization_method == METHOD


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError naming the tensor or field at fault."""
    return load_as(folder, head, GptqConfig.of(folder.raw[FIELD]))


def load_as(folder: CheckpointFolder, head: Head, config: GptqConfig, method: str = METHOD) -> LoadedModel:
    """Loads layers that are stored as a config says. Raises CheckpointError naming the tensor or field at fault."""
    layers = packed_layers(folder, f"config.json says quant_method {method!r}")
    schemes = {stored: config.of_layer(stored) for stored in layers}
    seen: set[str] = set()
    model, _, notes = load_low_bit(
        folder,
        head,
        layers,
        lambda stored, linear: _read_layer(folder, stored, linear, schemes[stored], seen),
        lambda stored: _packed_shape(folder, stored, schemes[stored].bits),
    )
    notes += tuple(
        f"config.json says GPTQ format {config.format!r}, zero points are stored as in {form!r}: taken so"
        for form in sorted(seen - {config.format})
    )
    notes += widened(scheme.bits for scheme in schemes.values())
    return loaded(model, method, "+".join(sorted(seen)), notes)


def _packed_shape(folder: CheckpointFolder, stored: str, bits: int) -> tuple[int, int] | None:
    """Gives [out, in], if the packed codes are as long as g_idx says."""
    packed, index = folder.tensors.shape(f"{stored}.qweight"), f"{stored}.g_idx"
    if len(packed) != 2:
        return None
    groups_of = folder.tensors.shape(index) if index in folder.tensors else ()
    columns = groups_of[0] if groups_of else packed[0] * 32 // bits
    return (packed[1], columns) if packed[0] == words(columns, bits) else None


def _read_layer(
    folder: CheckpointFolder, stored: str, linear: nn.Linear, config: GptqConfig, seen: set[str]
) -> LowBitLayer:
    names = tuple(f"{stored}.{part}" for part in ("qweight", "qzeros", "scales"))
    rows, columns = linear.in_features, linear.out_features
    groups = 1 if config.group_size == -1 else require_full_groups(stored, linear, config.group_size)
    packed = read_tensor(folder, names[0], (words(rows, config.bits), columns), (torch.int32,))
    codes = unpack_words(packed.T, config.bits)[:, :rows].contiguous()
    packed_zeros = read_tensor(folder, names[1], (groups, words(columns, config.bits)), (torch.int32,))
    zeros, form = _zeros(names[1], packed_zeros, columns, config)
    seen.add(form)
    scales = read_scales(folder, names[2], (groups, columns), signed=True).T.contiguous()
    groups_of, of_groups = _groups_of(folder, stored, linear, config, groups)
    bias, of_bias = bias_of(folder, stored, linear)
    weight = QuantizedWeight(codes, scales, zeros, kept_bits(config.bits), groups_of).upright()
    return LowBitLayer(QuantizedLinear(weight, bias, None), (*names, *of_groups, *of_bias))


def _zeros(name: str, packed: Tensor, columns: int, config: GptqConfig) -> tuple[Tensor | None, str]:
    """Reads zero points on the signed grid, int8 [out, groups], None if all are its middle; and how they are stored.

    Symmetric weights have them in the middle, which tells how they are stored: optimum 2.3 writes `gptq` tensors beside
    a config that says `gptq_v2`.
    """
    as_they_are = unpack_words(packed, config.bits)[:, :columns].T.contiguous()
    if not config.sym and config.format == AS_IT_IS:
        return as_they_are, AS_IT_IS
    one_more = _one_more(packed, config.bits)[:, :columns].T.contiguous()
    if not config.sym:
        return one_more, LESS_ONE
    for zeros, form in ((as_they_are, AS_IT_IS), (one_more, LESS_ONE)):
        if not bool(zeros.any()):
            return None, form
    middle = 1 << (config.bits - 1)
    raise CheckpointError(
        f"tensor {name!r} holds zero points {as_they_are.min() + middle} to {as_they_are.max() + middle}, and "
        f"config.json: {FIELD}.sym is true, which stores {middle - 1} or {middle} throughout: set sym to false"
    )


def _one_more(packed: Tensor, bits: int) -> Tensor:
    """Unpacks zero points that are stored less one: int8 [groups, out]; 0 is stored as the largest code."""
    if bits in _ONE_EACH:
        # On whole words, as the writers subtract: a zero point of 0 borrowed from its neighbour and is paid back here.
        return unpack_words(packed + _ONE_EACH[bits], bits)
    half = 1 << (bits - 1)  # codes that lie across words are subtracted one by one
    return (unpack_words(packed, bits) + half + 1) % (2 * half) - half


def _groups_of(
    folder: CheckpointFolder, stored: str, linear: nn.Linear, config: GptqConfig, groups: int
) -> tuple[Tensor | None, tuple[str, ...]]:
    name = f"{stored}.g_idx"
    if name not in folder.tensors and not config.desc_act:
        return None, ()
    index = read_tensor(folder, name, (linear.in_features,), (torch.int32, torch.int64)).to(torch.int64)
    return checked_groups(name, index, groups), (name,)
