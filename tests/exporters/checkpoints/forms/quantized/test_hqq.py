"""HQQ checkpoints compute what HQQ's own layers do; what its tensors and config contradict each other in is named."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.protos.errors import CheckpointError
from support import checkpoints
from support.forms import adapters
from support.forms.quantized_checkpoints import rewrite_quantization, rewrite_tensors, state_quantization

SAVED = Path(checkpoints.__file__).parent / "forms" / "hqq_saved"
IDS = torch.arange(3, 35)[None]
LAYER = "model.layers.0.mlp.down_proj"


@pytest.mark.parametrize(("variant", "bits"), [("four_bits", "4"), ("mixed", "1+2+3+4+8")])
def test_a_checkpoint_computes_what_hqq_does(variant: str, bits: str) -> None:
    """Groups along both axes, words of all packings, one viewed as floats."""
    loaded = load_checkpoint(SAVED / variant)
    with torch.no_grad():
        logits = loaded.model(input_ids=IDS).logits
    expected = load_file(SAVED / variant / "reference.safetensors")["logits"]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert loaded.quantization is None
    assert loaded.notes[1:] == (
        f"7 weight matrices are stored in HQQ's {bits} bits, and read as the full precision that they stand for",
    )


def copied(folder: Path, variant: str = "four_bits") -> Path:
    return shutil.copytree(SAVED / variant, folder, ignore=shutil.ignore_patterns("reference*"))


def test_an_adapter_merges_into_what_the_codes_stand_for(tmp_path: Path) -> None:
    base = copied(tmp_path / "base")
    whole = load_checkpoint(base).model
    dense = tmp_path / "whole"
    whole.save_pretrained(dense)  # type: ignore[operator]
    trained = adapters.lora(tmp_path / "adapter", dense)
    source = load_checkpoint(trained.folder, base=base)
    apart = (adapters.outputs(source.model, IDS) - trained.outputs(IDS)).abs().max()
    assert apart <= 1e-5
    assert any("stored in HQQ's 4 bits" in note for note in source.notes)


STATED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "other bits": (
        lambda said: said["quant_config"]["weight_quant_params"].update(nbits=8),
        r"quant_config says nbits 8, tensor 'model\.layers\.0\..*\.nbits' 4: copy the checkpoint again",
    ),
    "another axis": (
        lambda said: said["quant_config"]["weight_quant_params"].update(axis=0),
        "quant_config says axis 0",
    ),
    "a layer that is to stay": (
        lambda said: said["skip_modules"].append("mlp.down_proj"),
        rf"'{LAYER}' is stored in codes, and config\.json: quantization_config\.skip_modules leaves 'mlp\.down_proj'",
    ),
    "no object": (lambda said: said.update(quant_config=[4]), r"quant_config is \[4\], must be an object"),
    "no object of a layer": (
        lambda said: said.update(quant_config={"mlp.down_proj": 4}),
        r"quant_config of 'mlp\.down_proj' is 4, must be an object",
    ),
    "no list": (
        lambda said: said.update(skip_modules="lm_head"),
        "skip_modules is 'lm_head', must be a list of names",
    ),
    "an unknown field": (lambda said: said.update(rotate=True), r"quantization_config\.rotate is unknown"),
}


@pytest.mark.parametrize("fault", STATED)
def test_a_config_that_says_otherwise_is_refused_by_its_field(fault: str, tmp_path: Path) -> None:
    change, message = STATED[fault]
    folder = copied(tmp_path / "c")
    rewrite_quantization(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def _with(part: str, value: Any) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.update({f"{LAYER}.{part}": torch.as_tensor(value)})


STORED: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "no scales": (lambda tensors: tensors.pop(f"{LAYER}.scale"), rf"lacks tensor '{LAYER}\.scale'"),
    "no packing": (lambda tensors: tensors.pop(f"{LAYER}.packing"), rf"lacks tensor '{LAYER}\.packing'"),
    "another packing": (
        _with("packing", torch.tensor([*b"4bit_32"], dtype=torch.uint8)),
        rf"tensor '{LAYER}\.packing' says '4bit_32', supported are 8bit_u8, 4bit_u8",
    ),
    "quantized zero points": (
        _with("quant_zero", torch.tensor(1, dtype=torch.uint8)),
        rf"layer '{LAYER}' is stored with quant_zero, which is not read",
    ),
    "one scale for all": (
        _with("channel_wise", torch.tensor(0, dtype=torch.uint8)),
        rf"layer '{LAYER}' has one scale for all of it",
    ),
    "groups that do not fit": (
        _with("group_size", torch.tensor(48, dtype=torch.int32)),
        r"says shape \[64, 128\], group_size 48 and axis 1, which do not fit",
    ),
    "fewer codes": (
        lambda tensors: tensors.update({f"{LAYER}.W_q": tensors[f"{LAYER}.W_q"][:-1]}),
        rf"tensor '{LAYER}\.W_q' holds words of shape \[127, 32\], 4bit_u8 of its group_size and axis is \[128, 32\]",
    ),
    "a scale that is no number": (
        lambda tensors: tensors[f"{LAYER}.scale"].view(-1)[3:4].fill_(float("nan")),
        rf"'{LAYER}\.scale' holds NaN",
    ),
    "a part that is unknown": (_with("rotation", torch.ones(2)), rf"{LAYER}\.rotation"),
    "a layer without a place": (
        lambda tensors: [
            tensors.update({name.replace(LAYER, "model.layers.9.mlp.down_proj"): tensors.pop(name)})
            for name in [*tensors]
            if name.startswith(LAYER)
        ],
        r"model\.layers\.9\.mlp",
    ),
}


@pytest.mark.parametrize("fault", STORED)
def test_a_tensor_at_fault_is_named(fault: str, tmp_path: Path) -> None:
    change, message = STORED[fault]
    folder = rewrite_tensors(copied(tmp_path / "c"), change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_a_config_beside_full_precision_weights_is_refused(tmp_path: Path) -> None:
    folder = checkpoints.causal_lm(tmp_path / "c", "llama", num_hidden_layers=1)
    state_quantization(folder, quant_method="hqq")
    with pytest.raises(CheckpointError, match=r"no tensor named '\.\.\.\.W_q': remove quantization_config"):
        load_checkpoint(folder)
