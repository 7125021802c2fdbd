"""Checkpoints of bitsandbytes in 4 bits are read as what its own library dequantizes, as bases of adapters too."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rankport.exporters.checkpoints.checkpoint import Checkpoint, load_checkpoint
from rankport.protos.errors import CheckpointError
from support import checkpoints
from support.forms import adapters
from support.forms.quantized_checkpoints import (
    read_tensors,
    rewrite_quantization,
    rewrite_tensors,
    state_quantization,
)

WITNESSES = Path(checkpoints.__file__).parent / "forms" / "bitsandbytes_4bit"
VARIANTS = ["nf4_nested", "fp4"]
IDS = torch.arange(3, 35)[None]
WEIGHT = "model.layers.0.mlp.down_proj.weight"
STATE = f"{WEIGHT}.quant_state.bitsandbytes__nf4"


def _logits(loaded: Checkpoint) -> Tensor:
    with torch.no_grad():
        logits: Tensor = loaded.model(input_ids=IDS).logits
    return logits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(WITNESSES / "nf4_nested", tmp_path / "c")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_checkpoint_equals_what_bitsandbytes_dequantizes(variant: str) -> None:
    expected = load_file(WITNESSES / variant / "reference.safetensors")["logits"]
    loaded = load_checkpoint(WITNESSES / variant)
    torch.testing.assert_close(_logits(loaded), expected, rtol=0, atol=1e-5)
    assert loaded.quantization is None
    (note,) = (note for note in loaded.notes if "bitsandbytes" in note)
    assert note.startswith(
        f"7 weight matrices are stored in bitsandbytes' {variant[:3]}, and read as the full"
    )


SAVED = {"modules_to_save": ["embed_tokens", "lm_head"], "target_modules": "all-linear"}
ADAPTERS: dict[str, dict[str, Any]] = {
    "layers": {},
    "semantic ids, table and head apart": SAVED | {"vocabulary": checkpoints.VOCABULARY + 16},
    "semantic ids, tied": SAVED | {"vocabulary": checkpoints.VOCABULARY + 16, "ensure_weight_tying": True},
}


@pytest.mark.parametrize("case", ADAPTERS)
def test_an_adapter_merges_into_the_weights_that_it_was_trained_over(
    case: str, folder: Path, tmp_path: Path
) -> None:
    whole = load_checkpoint(folder).model
    dense = tmp_path / "dense"
    dense.mkdir()
    save_file(
        {n: p.contiguous() for n, p in whole.named_parameters() if n != "lm_head.weight"},
        dense / "model.safetensors",
    )
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    (dense / "config.json").write_text(json.dumps(config))
    trained = adapters.lora(tmp_path / "adapter", dense, **ADAPTERS[case])
    merged = load_checkpoint(trained.folder, base=folder)
    rows = ADAPTERS[case].get("vocabulary", checkpoints.VOCABULARY)
    assert merged.vocab_size == rows
    ids = torch.cat((IDS, rows - 1 - torch.arange(16)[None]), dim=1)
    expected = load_checkpoint(trained.folder, base=dense)
    assert torch.equal(_logits(merged), _logits(expected))
    answer = trained.outputs(ids)
    assert (adapters.outputs(merged.model, ids) - answer).abs().max() <= 1e-5 * answer.abs().max()
    assert not torch.equal(_logits(merged)[..., :100], _logits(load_checkpoint(folder))[..., :100])
    assert any("bitsandbytes' nf4" in note for note in merged.notes)


def test_a_size_that_blocks_do_not_divide_ends_in_a_shorter_one(folder: Path) -> None:
    """Blocks of 96 numbers: 8,192 are 85 and a third."""
    state = json.loads(bytes(read_tensors(folder)[STATE].tolist()))
    del state["nested_blocksize"]
    scales = torch.rand(86, generator=torch.Generator().manual_seed(1))

    def change(tensors: dict[str, Tensor]) -> None:
        tensors[STATE] = _octets(state | {"blocksize": 96})
        tensors[f"{WEIGHT}.absmax"] = scales

    before = read_tensors(folder)
    rewrite_tensors(folder, change)
    octets = before[WEIGHT].flatten().long()
    codes = torch.stack((octets // 16, octets % 16), dim=1).flatten()
    expected = before[f"{WEIGHT}.quant_map"][codes] * scales[torch.arange(len(codes)) // 96]
    weight = load_checkpoint(folder).model.get_parameter(WEIGHT)
    assert torch.equal(weight, expected.reshape(64, 128))


def _octets(state: dict[str, Any]) -> Tensor:
    return torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)


DAMAGES: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "no absmax": (lambda t: t.pop(f"{WEIGHT}.absmax"), rf"lacks tensor '{WEIGHT}\.absmax', a part of"),
    "packed for a CPU": (
        lambda t: t.update({f"{WEIGHT}.absmax": t[f"{WEIGHT}.absmax"].reshape(2, 64)}),
        r"absmax' is torch.uint8 of shape \[2, 64\], expected is torch.uint8 of \[128\]: save",
    ),
    "too few codes": (
        lambda t: t.update({WEIGHT: t[WEIGHT][:-1]}),
        "holds 4095 bytes, and its state says 8192",
    ),
    "a state that is none": (
        lambda t: t.update({STATE: torch.tensor([1, 2], dtype=torch.uint8)}),
        "is no state of bitsandbytes",
    ),
    "another type": (
        lambda t: t.update({STATE: _octets({"quant_type": "int3", "shape": [64, 128], "blocksize": 64})}),
        "'int3'.*which bitsandbytes' nf4 or fp4 are not",
    ),
    "no weight": (lambda t: t.pop(WEIGHT), f"and no tensor '{WEIGHT}'"),
    "no state": (lambda t: t.pop(STATE), f"tensor '{WEIGHT}"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_tensor_at_fault_is_named(damage: str, folder: Path) -> None:
    change, message = DAMAGES[damage]
    rewrite_tensors(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_8_bits_are_refused_for_what_they_do(folder: Path) -> None:
    rewrite_quantization(folder, lambda stated: stated.update(load_in_4bit=False, load_in_8bit=True))
    with pytest.raises(CheckpointError, match=r"load_in_8bit is true: .*depends on those beside it"):
        load_checkpoint(folder)


def test_a_config_beside_full_precision_weights_is_refused(tmp_path: Path) -> None:
    folder = checkpoints.causal_lm(tmp_path / "c", "llama", num_hidden_layers=1)
    state_quantization(folder, quant_method="bitsandbytes", load_in_4bit=True)
    with pytest.raises(CheckpointError, match=r"holds no tensor named .*remove quantization_config"):
        load_checkpoint(folder)
