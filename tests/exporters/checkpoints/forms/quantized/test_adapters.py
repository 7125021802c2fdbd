"""Adapters over bases in low bits answer as the model they were trained as: over what the codes stand for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.protos.errors import CheckpointError
from support.forms import adapters
from support.forms.gptq_checkpoints import Gptq, formula_model, gptq
from support.forms.quantized_checkpoints import W4A16_CHANNEL_ASYM, compressed_tensors, library_model

IDS = torch.arange(3, 35)[None]
ALL = {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]}
HEAD = {"modules_to_save": ["lm_head"], "vocabulary": 112}


def in_full(folder: Path, whole: nn.Module, base: Path) -> Path:
    """Saves the model of a base in full precision, as peft trains over it."""
    folder.mkdir()
    tensors = {name: tensor.detach().clone() for name, tensor in whole.named_parameters()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((base / "config.json").read_text())
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def of_gptq(folder: Path, how: Gptq) -> tuple[Path, nn.Module]:
    base = gptq(folder, how, num_hidden_layers=1, vocab_size=104)
    return base, formula_model(base)


def of_compressed_tensors(folder: Path) -> tuple[Path, nn.Module]:
    base = compressed_tensors(folder, W4A16_CHANNEL_ASYM, num_hidden_layers=1)
    return base, library_model(base)


CASES: dict[str, tuple[Callable[[Path], tuple[Path, nn.Module]], dict[str, Any]]] = {
    "gptq": (lambda to: of_gptq(to, Gptq()), {}),
    "gptq, zero points, act-order, every layer": (
        lambda to: of_gptq(to, Gptq(sym=False, desc_act=True)),
        ALL,
    ),
    "gptq, dora": (lambda to: of_gptq(to, Gptq(bits=8)), {"use_dora": True}),
    "gptq, a head in low bits saved with more rows": (lambda to: of_gptq(to, Gptq(lm_head=True)), HEAD),
    "compressed-tensors": (of_compressed_tensors, ALL | {"modules_to_save": ["norm"]}),
}


@pytest.mark.parametrize("case", CASES)
def test_an_adapter_merges_into_what_the_codes_stand_for(case: str, tmp_path: Path) -> None:
    make, config = CASES[case]
    torch.manual_seed(2)
    base, whole = make(tmp_path / "base")
    trained = adapters.lora(tmp_path / "adapter", in_full(tmp_path / "whole", whole, base), **config)
    source = load_checkpoint(trained.folder, base=base)
    expected = trained.outputs(IDS)
    apart = (adapters.outputs(source.model, IDS) - expected).abs().max()
    assert apart <= 1e-5 * expected.abs().max()
    with torch.no_grad():
        assert (adapters.outputs(whole, IDS)[..., :100] - expected[..., :100]).abs().max() > 1e-2
    assert source.quantization is None
    assert not any(isinstance(module, QuantizedLinear) for module in source.model.modules())
    assert any("of the base are stored in low bits" in note for note in source.notes)


def test_another_base_than_the_one_that_was_trained_over_is_noted(tmp_path: Path) -> None:
    base, whole = of_gptq(tmp_path / "base", Gptq())
    trained = adapters.lora(tmp_path / "adapter", in_full(tmp_path / "whole", whole, base)).folder
    said = "the adapter names base 'whole', stored in full precision, and is merged into 'base', stored in gptq: "
    assert any(note.startswith(said) for note in load_checkpoint(trained, base=base).notes)
    assert not any("names base" in note for note in load_checkpoint(trained).notes)


def test_rounded_inputs_are_refused_with_the_layer(tmp_path: Path) -> None:
    base = compressed_tensors(tmp_path / "base", "W8A8", num_hidden_layers=1)
    adapter = adapters.lora(tmp_path / "adapter", tmp_path / "base-dense").folder
    said = r"'model\.layers\.0\.self_attn\.q_proj' .* rounds its inputs \(int8 per token\).*with --base"
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(adapter, base=base)
