"""Files beside config.json that say how the weights are quantized: read, or refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rankport.exporters.checkpoints.checkpoint import checkpoint_sha256, load_checkpoint
from rankport.exporters.checkpoints.config.quantization_files import method_of, with_quantization
from rankport.protos.errors import CheckpointError
from support import checkpoints
from support.forms.gptq_checkpoints import Gptq, gptq


def write(folder: Path, name: str, content: dict[str, Any]) -> Path:
    (folder / name).write_text(json.dumps(content))
    return folder


STATED = {
    "hf_quant_config.json": ({"quantization": {"quant_algo": "FP8"}}, "modelopt"),
    "quantize_config.json": ({"bits": 4, "group_size": 128, "desc_act": False, "damp_percent": 0.01}, "gptq"),
    "quant_config.json": ({"zero_point": True, "q_group_size": 128, "w_bit": 4, "version": "GEMM"}, "awq"),
    "quantization_config.json": ({"quant_method": "intel/auto-round", "bits": 4}, "intel/auto-round"),
}


@pytest.mark.parametrize("name", STATED)
def test_a_file_beside_the_config_states_the_quantization(name: str, tmp_path: Path) -> None:
    content, method = STATED[name]
    raw, notes = with_quantization(write(tmp_path, name, content), {"model_type": "llama"})
    assert method_of(raw) == method
    assert notes == (f"quantization as {name} has it: config.json says nothing",)
    before = checkpoint_sha256(tmp_path)
    write(tmp_path, name, content | {"more": 1})
    assert checkpoint_sha256(tmp_path) != before


def test_weights_of_autogptq_load_by_their_own_file_as_by_the_config(tmp_path: Path) -> None:
    folder = gptq(tmp_path / "c", Gptq())
    expected = load_checkpoint(folder)
    config = json.loads((folder / "config.json").read_text())
    stated = config.pop("quantization_config")
    write(folder, "config.json", config)
    write(
        folder, "quantize_config.json", {key: value for key, value in stated.items() if key != "quant_method"}
    )
    loaded = load_checkpoint(folder)
    assert loaded.quantization == expected.quantization is not None
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        assert torch.equal(loaded.model(input_ids=ids).logits, expected.model(input_ids=ids).logits)


def test_a_file_that_contradicts_the_config_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "quantize_config.json", {"bits": 8, "group_size": 128})
    raw = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}
    with pytest.raises(
        CheckpointError, match=r"quantize_config.json says bits 8, config.json: .*\.bits is 4"
    ):
        with_quantization(tmp_path, raw)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (
            {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0},
            "method 'fbgemm_fp8' is not supported",
        ),
        ({"bits": 4}, "quantization_config has no quant_method"),
    ],
)
def test_a_method_that_is_not_supported_is_named(
    stated: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = checkpoints.causal_lm(tmp_path / "c", "qwen2", num_hidden_layers=1)
    config = json.loads((folder / "config.json").read_text())
    write(folder, "config.json", config | {"quantization_config": stated})
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)
