"""ModelOpt's FP8 checkpoints equal the library that shares their layout, NVFP4 ModelOpt itself; others are refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.quantization.linear import QuantizedLinear, unrounded_inputs
from rankport.protos.errors import CheckpointError
from support import checkpoints
from support.forms.quantized_checkpoints import (
    compressed_tensors,
    library_logits,
    read_tensors,
    rewrite_tensors,
)

IDS = torch.arange(3, 20)[None]
LAYER = "model.layers.0.mlp.down_proj"
NVFP4 = Path(checkpoints.__file__).parent / "forms" / "modelopt_nvfp4"
ALGORITHMS = {"FP8": "FP8", "FP8_DYNAMIC": "FP8_PER_CHANNEL_PER_TOKEN"}  # by the other library's name


def as_modelopt(folder: Path, *, beside: bool = True, **fields: Any) -> Path:
    """States FP8 as ModelOpt does, in a file beside config.json or in it."""
    stated = {"quant_algo": "FP8", "kv_cache_quant_algo": None, "exclude_modules": ["lm_head"]} | fields
    file = folder / "config.json"
    config = {
        key: value for key, value in json.loads(file.read_text()).items() if key != "quantization_config"
    }
    if beside:
        said = {"producer": {"name": "modelopt", "version": "0.42.0"}, "quantization": stated}
        (folder / "hf_quant_config.json").write_text(json.dumps(said))
    else:
        config["quantization_config"] = {
            "quant_method": "modelopt",
            "producer": {"name": "modelopt"},
        } | stated
    file.write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("preset", ALGORITHMS)
@pytest.mark.parametrize("beside", [True, False], ids=["hf_quant_config.json", "config.json"])
def test_weights_and_inputs_are_scaled_as_stored(preset: str, beside: bool, tmp_path: Path) -> None:
    folder = compressed_tensors(tmp_path / "c", preset, num_hidden_layers=1)
    expected = library_logits(folder, IDS)
    loaded = load_checkpoint(as_modelopt(folder, beside=beside, quant_algo=ALGORITHMS[preset]))
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(input_ids=IDS).logits, expected, rtol=0, atol=1e-5)
    assert loaded.quantization is not None
    assert {part.activations for part in loaded.quantization.schemes} == {
        "fp8 per tensor" if preset == "FP8" else "fp8 per token"
    }
    assert any("hf_quant_config.json" in note for note in loaded.notes) == beside


def test_without_a_scale_of_inputs_weights_alone_are_low_bit(tmp_path: Path) -> None:
    folder = as_modelopt(compressed_tensors(tmp_path / "c", "FP8", num_hidden_layers=1))
    rewrite_tensors(folder, lambda t: [t.pop(name) for name in [*t] if name.endswith("input_scale")] and None)
    loaded = load_checkpoint(folder, head="none")
    stored = read_tensors(folder)
    whole = load_checkpoint(tmp_path / "c-dense", head="none").model
    for name, parameter in whole.named_parameters():
        value = stored[f"model.{name}"].to(torch.float32)
        parameter.data = value * stored.get(f"model.{name}_scale", torch.tensor(1.0)).to(torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.model(input_ids=IDS).last_hidden_state,
            whole(input_ids=IDS).last_hidden_state,
            rtol=0,
            atol=1e-5,
        )


def test_nvfp4_equals_what_modelopt_dequantizes() -> None:
    loaded, stored = load_checkpoint(NVFP4), load_file(NVFP4 / "model.safetensors")
    layers = {n: one for n, one in loaded.model.named_modules() if isinstance(one, QuantizedLinear)}
    assert len(layers) == 7
    for name, weight in load_file(NVFP4 / "reference.safetensors").items():
        layer = layers[name.removesuffix(".weight")]
        torch.testing.assert_close(layer.quantized.dequantized(), weight, rtol=1e-6, atol=0)
    for name, layer in layers.items():
        assert layer.activation is not None
        assert (layer.activation.kind, layer.activation.block) == ("fp4-block", 16)
        assert layer.activation.scale == stored[f"{name}.input_scale"].item()
    assert loaded.quantization is not None
    (part,) = loaded.quantization.schemes
    assert (part.bits, part.type, part.group_size) == (4, "float", 16)
    assert loaded.quantization.format == "NVFP4"


def test_weights_alone_in_nvfp4_have_no_scale_of_inputs(tmp_path: Path) -> None:
    folder = as_modelopt(shutil.copytree(NVFP4, tmp_path / "c"), quant_algo="W4A16_NVFP4")
    with pytest.raises(CheckpointError, match=r"holds tensor '.*input_scale', which its config has no place"):
        load_checkpoint(folder)
    rewrite_tensors(folder, lambda t: [t.pop(name) for name in [*t] if name.endswith("input_scale")] and None)
    loaded, rounded = load_checkpoint(folder), load_checkpoint(NVFP4)
    assert loaded.quantization is not None
    assert loaded.quantization.schemes[0].activations == "none"
    with unrounded_inputs(rounded.model), torch.no_grad():
        assert torch.equal(loaded.model(input_ids=IDS).logits, rounded.model(input_ids=IDS).logits)


@pytest.fixture(scope="module")
def fp8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compressed_tensors(tmp_path_factory.mktemp("fp8") / "c", "FP8", num_hidden_layers=1)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another algorithm": ({"quant_algo": "NVFP4_AWQ"}, "quant_algo is 'NVFP4_AWQ', supported is FP8 or"),
    "fp4 that is none": ({"quant_algo": "NVFP4"}, r"holds no tensor named '\.\.\.\.weight_scale_2'"),
    "other groups": ({"quant_algo": "NVFP4", "group_size": 32}, "group_size is 32, supported is 16"),
    "KV in low bits": ({"kv_cache_quant_algo": "FP8"}, "kv_cache_quant_algo is 'FP8', supported is null"),
    "a field that is unknown": ({"rotate": True}, "quantization_config.rotate is unknown"),
    "a layer that is not stored so": (
        {"exclude_modules": [], "quant_algo": "FP8", "ignore": []},
        "covers layer 'model.layers.0.self_attn.q_proj', which is stored in full precision",
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_would_be_another_model_is_refused_by_name(reason: str, fp8: Path, tmp_path: Path) -> None:
    fields, message = REFUSED[reason]
    folder = as_modelopt(_copy(fp8, tmp_path / "c"), **fields)
    if "full precision" in message:
        rewrite_tensors(folder, _dequantize_query)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_a_layer_without_its_scale_is_refused(fp8: Path, tmp_path: Path) -> None:
    folder = as_modelopt(_copy(fp8, tmp_path / "c"))
    rewrite_tensors(folder, lambda t: t.pop(f"{LAYER}.weight_scale") and None)
    with pytest.raises(CheckpointError, match=f"lacks tensor '{LAYER}.weight_scale'"):
        load_checkpoint(folder)


def test_an_expert_in_low_bits_is_refused_for_what_it_is(fp8: Path, tmp_path: Path) -> None:
    folder = as_modelopt(_copy(fp8, tmp_path / "c"))
    expert = "model.layers.0.mlp.experts.0.down_proj"

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if name.startswith(LAYER)]:
            tensors[name.replace(LAYER, expert)] = tensors.pop(name)

    rewrite_tensors(folder, rename)
    with pytest.raises(CheckpointError, match=f"'{expert}' is an expert's and quantized"):
        load_checkpoint(folder)


def test_full_precision_beside_a_file_that_says_fp8_is_refused(tmp_path: Path) -> None:
    folder = as_modelopt(checkpoints.causal_lm(tmp_path / "c", "qwen3", num_hidden_layers=1))
    with pytest.raises(CheckpointError, match=r"holds no float8 weight: remove hf_quant_config.json"):
        load_checkpoint(folder)


def _copy(folder: Path, out: Path) -> Path:
    out.mkdir()
    for file in folder.iterdir():
        (out / file.name).write_bytes(file.read_bytes())
    return out


def _dequantize_query(tensors: dict[str, torch.Tensor]) -> None:
    name = "model.layers.0.self_attn.q_proj"
    tensors[f"{name}.weight"] = tensors[f"{name}.weight"].to(torch.float32) * tensors.pop(
        f"{name}.weight_scale"
    )
    tensors.pop(f"{name}.input_scale")
