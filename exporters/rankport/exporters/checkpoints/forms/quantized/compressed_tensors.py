"""Checkpoints in the compressed-tensors format: int2 to int8, fp4 and float8 weights, with and without low-bit inputs.

The layout of the tensors and every formula are those of the compressed-tensors library, 0.20 (compressors, and
quantization/utils/helpers.py for inputs), which is not needed to load.
"""

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel
from rankport.exporters.checkpoints.forms.quantized.compressed_tensors_config import (
    INT_BITS,
    SMALL_BLOCKS,
    CompressedTensorsConfig,
    LayerScheme,
)
from rankport.exporters.checkpoints.forms.quantized.low_bit import LowBitLayer, load_low_bit, loaded
from rankport.exporters.checkpoints.forms.quantized.packing import (
    kept_bits,
    powers_of_two,
    unpack_fp4,
    unpack_words,
    words,
)
from rankport.exporters.checkpoints.forms.quantized.stored_parts import (
    bias_of,
    checked_groups,
    read_block_scales,
    read_one_scale,
    read_scales,
    read_tensor,
    require_full_groups,
)
from rankport.exporters.quantization.activation import FP4_MAX, FP8_MAX, Activation
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.exporters.quantization.weight import QuantizedWeight
from rankport.protos.errors import CheckpointError

METHOD = "compressed-tensors"
_INT8_DIVISOR = 127.5
"""Half of the range -128..127: the library's, where most kernels divide by 127."""
_WHOLE = (torch.int64, torch.int32)


def matches(folder: CheckpointFolder) -> bool:
    """Goes by `quantization_config.quant_method`."""
    return folder.quantization_method == METHOD


def load(folder: CheckpointFolder, head: Head, empty: nn.Module | None = None) -> LoadedModel:
    """Loads a folder, into the skeleton `empty` where config.json alone does not tell it.

    Raises CheckpointError naming the tensor or field at fault.
    """
    config = CompressedTensorsConfig.of(folder.raw["quantization_config"])

    def read(stored: str, linear: nn.Linear) -> LowBitLayer:
        scheme = config.scheme_of(stored, linear)
        if scheme is None:
            raise CheckpointError(
                f"tensor {stored + '.weight_scale'!r} says that {stored!r} is quantized, and no scheme of config.json: "
                "quantization_config.config_groups targets it: put the config beside its own weights"
            )
        return _read_layer(folder, stored, linear, scheme)

    layers = quantized_layers(folder)
    model, replaced, notes = load_low_bit(
        folder, head, layers, read, lambda stored: _packed_shape(folder, stored), empty
    )
    _require_all_targets(model, config, replaced)
    return loaded(model, METHOD, config.format, (*notes, *config.notes))


def quantized_layers(folder: CheckpointFolder) -> list[str]:
    """Lists the layers that are stored in low bits."""
    suffixes = (".weight_packed", ".weight_scale")
    return list(
        dict.fromkeys(name.rpartition(".")[0] for name in folder.tensors.names if name.endswith(suffixes))
    )


def _packed_shape(folder: CheckpointFolder, stored: str) -> tuple[int, int] | None:
    """Reads `weight_shape`, if the packed codes beside it are of that shape; codes of fp4 say their own."""
    packed, true = f"{stored}.weight_packed", f"{stored}.weight_shape"
    if packed in folder.tensors and folder.tensors.dtype(packed) == torch.uint8:
        shape = folder.tensors.shape(packed)
        return (shape[0], 2 * shape[1]) if len(shape) == 2 else None
    if packed not in folder.tensors or true not in folder.tensors or folder.tensors.shape(true) != (2,):
        return None
    out, columns = map(int, folder.tensors.read(true).tolist())
    sizes = {(out, words(columns, bits)) for bits in INT_BITS}
    return (out, columns) if folder.tensors.shape(packed) in sizes else None


def _require_all_targets(model: nn.Module, config: CompressedTensorsConfig, replaced: set[str]) -> None:
    """Refuses a layer that the config quantizes and the tensors do not: it would silently be served as it is."""
    prefix = getattr(model, "base_model_prefix", "")
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear) or name in replaced:
            continue
        # The config names layers as they are in the whole model; a bare body lacks the prefix.
        scheme = config.scheme_of(name, module)
        if scheme is not None and config.scheme_of(f"{prefix}.{name}", module) is not None:
            raise CheckpointError(
                f"config.json: {scheme.field}.targets covers layer {name!r}, and the checkpoint lacks tensor "
                f"{name + '.weight_scale'!r}: add the layer to quantization_config.ignore, or copy the checkpoint again"
            )


def _read_layer(folder: CheckpointFolder, stored: str, linear: nn.Linear, scheme: LayerScheme) -> LowBitLayer:
    is_fp4 = (scheme.weights.type, scheme.weights.bits) == ("float", 4)
    if is_fp4:
        codes, taken = _fp4_codes(folder, stored, linear)
    elif scheme.format == "pack-quantized":
        codes, taken = _packed_codes(folder, stored, linear, scheme)
    else:
        codes, taken = _plain_codes(folder, stored, linear, scheme)
    scales, of_scales = _scales(folder, stored, linear, scheme)
    groups_of, of_groups = _groups_of(folder, stored, linear, scales.shape[1])
    zeros, of_zeros = _zeros(folder, stored, linear, scheme, scales.shape)
    activation, of_inputs = _activation(folder, stored, scheme)
    bias, of_bias = bias_of(folder, stored, linear)
    weight = (
        QuantizedWeight(codes, scales / 2, zeros, 8, groups_of, is_fp4=True)
        if is_fp4
        else QuantizedWeight(codes, scales, zeros, kept_bits(scheme.weights.bits), groups_of).upright()
    )
    return LowBitLayer(
        QuantizedLinear(weight, bias, activation),
        (*taken, *of_scales, *of_groups, *of_zeros, *of_inputs, *of_bias),
    )


def _fp4_codes(folder: CheckpointFolder, stored: str, linear: nn.Linear) -> tuple[Tensor, tuple[str, ...]]:
    """Unpacks twice the values of fp4 [out, in] int8 of `weight_packed` uint8 [out, in / 2]."""
    name = f"{stored}.weight_packed"
    packed = read_tensor(folder, name, (linear.out_features, linear.in_features // 2), (torch.uint8,))
    return unpack_fp4(packed), (name,)


def _packed_codes(
    folder: CheckpointFolder, stored: str, linear: nn.Linear, scheme: LayerScheme
) -> tuple[Tensor, tuple[str, ...]]:
    """Unpacks codes [out, in] int8 of `weight_packed` int32 [out, ceil(in * bits / 32)]."""
    names = (f"{stored}.weight_packed", f"{stored}.weight_shape")
    expected = (linear.out_features, linear.in_features)
    true = tuple(read_tensor(folder, names[1], (2,), _WHOLE).tolist())
    if true != expected:
        raise CheckpointError(f"tensor {names[1]!r} holds {list(true)}, the config expects {list(expected)}")
    bits = scheme.weights.bits
    shape = (linear.out_features, words(linear.in_features, bits))
    packed = read_tensor(folder, names[0], shape, (torch.int32,))
    return unpack_words(packed, bits)[:, : linear.in_features].contiguous(), names


def _plain_codes(
    folder: CheckpointFolder, stored: str, linear: nn.Linear, scheme: LayerScheme
) -> tuple[Tensor, tuple[str, ...]]:
    """Reads codes [out, in] of `weight`, a code each: int8 (of 4 bits too) or float8."""
    name = f"{stored}.weight"
    dtype = torch.int8 if scheme.weights.type == "int" else torch.float8_e4m3fn
    codes = read_tensor(folder, name, (linear.out_features, linear.in_features), (dtype,))
    bits = scheme.weights.bits
    edge = 1 << (bits - 1)
    if bits < 8 and bool(((codes < -edge) | (codes >= edge)).any()):
        raise CheckpointError(
            f"tensor {name!r} holds codes outside {-edge}..{edge - 1}, and {scheme.field}.weights.num_bits is {bits}"
        )
    return codes, (name,)


def _scales(
    folder: CheckpointFolder, stored: str, linear: nn.Linear, scheme: LayerScheme
) -> tuple[Tensor, tuple[str, ...]]:
    """Reads scales: fp32 [out, groups], or [1, 1] a tensor."""
    name = f"{stored}.weight_scale"
    if scheme.format not in SMALL_BLOCKS:
        return _wide_scales(folder, stored, linear, scheme), (name,)
    size = scheme.weights.group_size
    assert size is not None
    shape = (linear.out_features, require_full_groups(stored, linear, size))
    if scheme.weights.strategy == "group":
        return powers_of_two(name, read_tensor(folder, name, shape, (torch.uint8,))), (name,)
    scales = read_tensor(folder, name, shape, (torch.float8_e4m3fn,)).to(torch.float32)
    return scales / read_one_scale(folder, f"{stored}.weight_global_scale"), (
        name,
        f"{stored}.weight_global_scale",
    )


def _wide_scales(folder: CheckpointFolder, stored: str, linear: nn.Linear, scheme: LayerScheme) -> Tensor:
    name = f"{stored}.weight_scale"
    if scheme.weights.strategy == "tensor":
        scale = read_scales(folder, name)
        if scale.numel() != 1:
            raise CheckpointError(f"tensor {name!r} has shape {list(scale.shape)}, the config expects [1]")
        return scale.reshape(1, 1)
    if scheme.weights.block is not None:
        shape = (linear.out_features, linear.in_features)
        return read_block_scales(folder, name, shape, scheme.weights.block)
    groups, signed = 1, scheme.weights.type == "int"
    if scheme.weights.group_size is not None:
        groups = require_full_groups(stored, linear, scheme.weights.group_size)
    if groups == 1 and name in folder.tensors and folder.tensors.shape(name) == (linear.out_features,):
        return read_scales(folder, name, signed=signed)[:, None]
    return read_scales(folder, name, (linear.out_features, groups), signed=signed)


def _zeros(
    folder: CheckpointFolder, stored: str, linear: nn.Linear, scheme: LayerScheme, like: torch.Size
) -> tuple[Tensor | None, tuple[str, ...]]:
    """Reads zero points int8 like the scales; packed along the rows where the weights are packed."""
    name = f"{stored}.weight_zero_point"
    if scheme.weights.symmetric:
        return None, (name,) if _zero_throughout(folder, name) else ()
    rows, groups = like
    if scheme.format == "pack-quantized" and scheme.weights.strategy != "tensor":
        shape = (words(rows, scheme.weights.bits), groups)
        packed = read_tensor(folder, name, shape, (torch.int32,))
        return unpack_words(packed.T, scheme.weights.bits)[:, :rows].T.contiguous(), (name,)
    zeros = read_tensor(folder, name, dtypes=(torch.int8,))
    if zeros.numel() != rows * groups:
        raise CheckpointError(
            f"tensor {name!r} has shape {list(zeros.shape)}, the config expects {list(like)}"
        )
    # A zero point a tensor stands for one a row.
    return zeros.reshape(rows, groups).expand(linear.out_features, -1).contiguous(), (name,)


def _zero_throughout(folder: CheckpointFolder, name: str) -> bool:
    """Checks zero points of symmetric weights, which older writers store: others than zero contradict the config."""
    if name not in folder.tensors:
        return False
    if bool(folder.tensors.read(name).to(torch.float32).any()):
        raise CheckpointError(
            f"tensor {name!r} holds zero points, and the config says symmetric: correct the config"
        )
    return True


def _groups_of(
    folder: CheckpointFolder, stored: str, linear: nn.Linear, groups: int
) -> tuple[Tensor | None, tuple[str, ...]]:
    """Reads the group of each input channel [in] where activation order stored one (writers before 2026; -1: none)."""
    name = f"{stored}.weight_g_idx"
    if name not in folder.tensors:
        return None, ()
    index = read_tensor(folder, name, (linear.in_features,), _WHOLE).to(torch.int64)
    if bool((index == -1).all()):
        return None, (name,)
    return checked_groups(name, index, groups), (name,)


def _activation(
    folder: CheckpointFolder, stored: str, scheme: LayerScheme
) -> tuple[Activation | None, tuple[str, ...]]:
    """Says how inputs are rounded: scale = max |x| / divisor of a token or a block of it, or `input_scale`."""
    if scheme.inputs is None:
        return None, ()
    kind = scheme.inputs.kind
    divisor = FP8_MAX if kind.startswith("fp8") else _INT8_DIVISOR
    zero = f"{stored}.input_zero_point"
    taken = (zero,) if _zero_throughout(folder, zero) else ()
    if kind == "fp4-block":
        name = f"{stored}.input_global_scale"
        unit = 1 / read_one_scale(folder, name)
        return Activation(kind, FP4_MAX, scale=unit, block=scheme.inputs.block), (name, *taken)
    if not kind.endswith("tensor"):
        return Activation(kind, divisor, block=scheme.inputs.block), taken
    name = f"{stored}.input_scale"
    return Activation(kind, divisor, scale=read_one_scale(folder, name)), (name, *taken)
