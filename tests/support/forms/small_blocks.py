"""Logits of checkpoints in NVFP4, MXFP4 and MXFP8 by the functions of the compressed-tensors library, in fp32.

Its own loading rounds such weights to bf16, and multiplies in it.
"""

from pathlib import Path

import torch
from compressed_tensors.compressors.mx_utils import decompress_mx_scale
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize, fake_quantize
from compressed_tensors.quantization.utils import compute_dynamic_scales_and_zp
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from support.forms.quantized_checkpoints import quiet, read_tensors


def reference_model(folder: Path) -> nn.Module:
    """Makes the model whose layers have the weights that the library dequantizes, and inputs that it rounds."""
    config = AutoConfig.from_pretrained(folder)
    (group,) = config.quantization_config["config_groups"].values()
    del config.quantization_config
    with quiet():
        model: nn.Module = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    tensors = read_tensors(folder)
    model.load_state_dict(model.state_dict() | {n: t for n, t in tensors.items() if n in model.state_dict()})
    inputs = group["input_activations"]
    for name, layer in model.named_modules():
        if f"{name}.weight_scale" in tensors:
            layer.weight.data = _weight(tensors, name, QuantizationArgs(**group["weights"]))
            if inputs is not None:
                unit = tensors.get(f"{name}.input_global_scale")
                layer.register_forward_pre_hook(_rounding(QuantizationArgs(**inputs), unit))
    return model.eval()


def reference_logits(folder: Path, ids: Tensor) -> Tensor:
    """Computes its logits [batch, tokens, vocabulary]."""
    with torch.no_grad():
        logits: Tensor = reference_model(folder)(input_ids=ids).logits
    return logits


def _weight(tensors: dict[str, Tensor], name: str, args: QuantizationArgs) -> Tensor:
    scales = tensors[f"{name}.weight_scale"]
    scales = decompress_mx_scale(scales) if scales.dtype == torch.uint8 else scales
    packed = tensors.get(f"{name}.weight_packed")
    codes = (
        tensors[f"{name}.weight"].to(torch.float32)
        if packed is None
        else unpack_fp4_from_uint8(packed, len(packed), 2 * packed.shape[1], dtype=torch.float32)
    )
    unit = tensors.get(f"{name}.weight_global_scale")
    weight: Tensor = dequantize(
        codes, scales.to(torch.float32), args=args, dtype=torch.float32, global_scale=unit
    )
    return weight


def _rounding(args: QuantizationArgs, unit: Tensor | None):  # type: ignore[no-untyped-def]
    def rounded(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        scales, zeros = compute_dynamic_scales_and_zp(inputs[0], args, layer, global_scale=unit)
        return (fake_quantize(inputs[0], scales, zeros, args, global_scale=unit),)

    return rounded
