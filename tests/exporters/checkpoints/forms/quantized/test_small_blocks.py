"""compressed-tensors checkpoints in NVFP4, MXFP4 and MXFP8 load low-bit and equal the library's own functions."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import fake_quantize
from compressed_tensors.quantization.utils import compute_dynamic_scales_and_zp
from torch import Tensor, nn

from rankport.exporters.quantization.activation import FP4_MAX, Activation
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.protos.errors import CheckpointError
from support.forms.compressed_tensors_loading import LAYER, load_compressed
from support.forms.quantized_checkpoints import compressed_tensors, rewrite_quantization, rewrite_tensors
from support.forms.small_blocks import reference_logits, reference_model

IDS = torch.arange(3, 35)[None]
# Facts that are read: bits, type, group size, activations.
SCHEMES: dict[str, tuple[int, str, int, str]] = {
    "NVFP4A16": (4, "float", 16, "none"),
    "NVFP4": (4, "float", 16, "fp4 per 16 channels"),
    "MXFP4A16": (4, "float", 32, "none"),
    "MXFP4XFP8": (4, "float", 32, "fp8 per 128 channels"),
    "MXFP8A16": (8, "float", 32, "none"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints, and to damage copies of."""
    folder = tmp_path_factory.mktemp("small-blocks")
    return {scheme: compressed_tensors(folder / scheme, scheme) for scheme in SCHEMES}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_checkpoint_equals_the_librarys_functions_and_stays_low_bit(
    scheme: str, sound: dict[str, Path]
) -> None:
    loaded, reference = load_compressed(sound[scheme]), reference_model(sound[scheme])
    layers = {name: one for name, one in loaded.model.named_modules() if isinstance(one, QuantizedLinear)}
    assert len(layers) == 14
    for name, layer in layers.items():
        assert layer.quantized.codes.element_size() == 1
        assert torch.equal(layer.quantized.dequantized(), reference.get_parameter(f"{name}.weight")), name
    assert loaded.quantization is not None
    (facts,) = loaded.quantization.schemes
    assert (facts.bits, facts.type, facts.group_size, facts.activations) == SCHEMES[scheme]
    with torch.no_grad():
        logits = loaded.model(input_ids=IDS).logits
    torch.testing.assert_close(logits, reference_logits(sound[scheme], IDS), rtol=0, atol=1e-5)


def test_inputs_are_rounded_to_fp4_as_the_library_does() -> None:
    """Random ones, blocks of zeros, blocks too quiet for any scale but 0, and the middle between each two values."""
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(200, 64, generator=generator) * 10.0 ** torch.randint(
        -6, 3, (200, 1), generator=generator
    )
    values[:3] = 0
    values[3, :16] = torch.tensor([6.0, *torch.arange(0.25, 4, 0.25)])
    values[4, :16] = -values[3, :16]
    unit = 448 * 6 / torch.tensor([60.0])
    args = QuantizationArgs(
        num_bits=4,
        type="float",
        strategy="tensor_group",
        dynamic="local",
        group_size=16,
        scale_dtype=torch.float8_e4m3fn,
    )
    scales, zeros = compute_dynamic_scales_and_zp(values, args, nn.Module(), global_scale=unit)
    expected = fake_quantize(values, scales, zeros, args, global_scale=unit)
    rounded = Activation("fp4-block", FP4_MAX, scale=1 / unit.item(), block=16).rounded(values)
    torch.testing.assert_close(rounded, expected, rtol=1e-6, atol=0)


def _weights(change: dict[str, Any]) -> Callable[[dict[str, Any]], object]:
    return lambda stated: stated["config_groups"]["group_0"]["weights"].update(change)


def _inputs(change: dict[str, Any]) -> Callable[[dict[str, Any]], object]:
    return lambda stated: stated["config_groups"]["group_0"]["input_activations"].update(change)


FIELDS: dict[str, tuple[str, Callable[[dict[str, Any]], object], str]] = {
    "groups": ("NVFP4", _weights({"group_size": 32}), r"weights\.group_size is 32, supported is 16 of nvfp4"),
    "scales": (
        "MXFP4A16",
        _weights({"scale_dtype": None}),
        r"weights\.scale_dtype is None, supported is 'torch.uint8'",
    ),
    "bits": (
        "MXFP8A16",
        _weights({"num_bits": 4}),
        r"weights\.num_bits is 4, supported is 8 of mxfp8-quantized",
    ),
    "inputs by scales of powers of two": (
        "MXFP4XFP8",
        _inputs({"scale_dtype": "torch.uint8"}),
        r"input_activations\.scale_dtype is 'torch.uint8', supported is null or a wide float",
    ),
    "groups of inputs": (
        "NVFP4",
        _inputs({"group_size": 32}),
        r"input_activations\.group_size is 32, supported is 16",
    ),
    "inputs by scales of theirs": (
        "NVFP4",
        _inputs({"dynamic": True, "strategy": "group"}),
        "input_activations is .*supported are .*float4, tensor_group, local",
    ),
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_at_fault_is_named(field: str, sound: dict[str, Path], tmp_path: Path) -> None:
    scheme, change, message = FIELDS[field]
    folder = shutil.copytree(sound[scheme], tmp_path / "c")
    rewrite_quantization(folder, change)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=message):
        load_compressed(folder)


DAMAGES: dict[str, tuple[str, Callable[[dict[str, Tensor]], object], str]] = {
    "no unit": (
        "NVFP4A16",
        lambda t: t.pop(f"{LAYER}.weight_global_scale"),
        "lacks tensor '.*weight_global_scale'",
    ),
    "no unit of inputs": (
        "NVFP4",
        lambda t: t.pop(f"{LAYER}.input_global_scale"),
        "lacks tensor '.*input_global",
    ),
    "a unit of nothing": (
        "NVFP4",
        lambda t: t[f"{LAYER}.input_global_scale"].zero_(),
        "input_global_scale' holds zeros only",
    ),
    "wide scales": (
        "NVFP4A16",
        lambda t: t.update({f"{LAYER}.weight_scale": t[f"{LAYER}.weight_scale"].float()}),
        "weight_scale' is stored as float32, the config expects float8_e4m3fn",
    ),
    "a scale that is none": (
        "MXFP4A16",
        lambda t: t[f"{LAYER}.weight_scale"].fill_(255),
        "weight_scale' holds NaN",
    ),
    "half of the codes": (
        "MXFP4A16",
        lambda t: t.update({f"{LAYER}.weight_packed": t[f"{LAYER}.weight_packed"][:, :96]}),
        r"tensor '.*down_proj.*' has shape",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_tensor_at_fault_is_named(damage: str, sound: dict[str, Path], tmp_path: Path) -> None:
    scheme, change, message = DAMAGES[damage]
    folder = shutil.copytree(sound[scheme], tmp_path / "c")
    rewrite_tensors(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_compressed(folder)
