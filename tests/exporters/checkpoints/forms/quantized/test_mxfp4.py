"""Experts in MXFP4 are read as what transformers dequantizes, to the bit, as bases of adapters too."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from rankport.exporters.checkpoints.checkpoint import Checkpoint, load_checkpoint
from rankport.exporters.checkpoints.forms.skeleton import quiet
from rankport.protos.errors import CheckpointError
from support import checkpoints
from support.forms import adapters
from support.forms.quantized_checkpoints import rewrite_quantization, rewrite_tensors, state_quantization

IDS = torch.arange(3, 35)[None]
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_local_experts": 3,
    "num_experts_per_tok": 2,
    "head_dim": 16,
    "tie_word_embeddings": False,
}
PUBLISHED = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
EXPERTS = "model.layers.1.mlp.experts."
WIDTHS = {"gate_up_proj": (64, 64), "down_proj": (64, 32)}  # out, in


def _packed(tensors: dict[str, Tensor]) -> None:
    """Puts random codes of every value, and scales of 2 ** -8 to 2 ** -5, in place of the experts' matrices."""
    generator = torch.Generator().manual_seed(7)
    for name in [name for name in tensors if name.endswith(tuple(WIDTHS))]:
        out, inputs = WIDTHS[name.rpartition(".")[2]]
        shape = (len(tensors.pop(name)), out, inputs // 32)
        tensors[f"{name}_blocks"] = torch.randint(256, (*shape, 16), generator=generator, dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.randint(119, 123, shape, generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint laid out as gpt-oss is published."""
    folder = checkpoints.causal_lm(tmp_path_factory.mktemp("mxfp4") / "c", "gpt_oss", **SHAPE)
    rewrite_tensors(folder, _packed)
    state_quantization(folder, quant_method="mxfp4", modules_to_not_convert=PUBLISHED)
    return folder


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(published, tmp_path / "c")


def _witness(folder: Path) -> nn.Module:
    """Loads the folder by transformers, which dequantizes where it has no kernel."""
    with quiet():
        model: nn.Module = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        )
    return model.eval()


def _logits(loaded: Checkpoint) -> Tensor:
    with torch.no_grad():
        logits: Tensor = loaded.model(input_ids=IDS).logits
    return logits


def test_a_checkpoint_equals_what_transformers_dequantizes(published: Path) -> None:
    loaded, witness = load_checkpoint(published), _witness(published)
    for name, parameter in witness.named_parameters():
        assert torch.equal(loaded.model.get_parameter(name), parameter), name
    assert torch.equal(_logits(loaded), adapters.outputs(witness, IDS))
    assert loaded.quantization is None
    (note,) = (note for note in loaded.notes if "MXFP4" in note)
    assert note == (
        "4 matrices of experts are stored in MXFP4, and read as the full precision that they stand for"
    )


def test_an_adapter_of_experts_merges_into_what_it_was_trained_over(published: Path, tmp_path: Path) -> None:
    trained = adapters.lora(
        tmp_path / "adapter",
        published,
        target_modules=["q_proj", "v_proj"],
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
    )
    merged = load_checkpoint(trained.folder, base=published)
    torch.testing.assert_close(_logits(merged), trained.outputs(IDS), rtol=0, atol=1e-5)
    assert not torch.allclose(_logits(merged), _logits(load_checkpoint(published)), atol=1e-2)


DAMAGES: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "no scales": (
        lambda t: t.pop(f"{EXPERTS}down_proj_scales"),
        "lacks tensor '.*down_proj_scales', a part of",
    ),
    "no blocks": (
        lambda t: t.pop(f"{EXPERTS}down_proj_blocks"),
        "tensor '.*down_proj_scales', which its config",
    ),
    "half of the blocks": (
        lambda t: t.update({f"{EXPERTS}down_proj_blocks": t[f"{EXPERTS}down_proj_blocks"][..., :8]}),
        r"down_proj_blocks' has shape \[3, 64, 1, 8\] and .*expected are \[experts, out, groups, 16\]",
    ),
    "scales that are numbers": (
        lambda t: t.update({f"{EXPERTS}down_proj_scales": t[f"{EXPERTS}down_proj_scales"].float()}),
        "down_proj_scales' is torch.float32, expected is torch.uint8",
    ),
    "a scale that is none": (
        lambda t: t[f"{EXPERTS}down_proj_scales"].fill_(255),
        "down_proj_scales' holds NaN",
    ),
    "fewer experts": (
        lambda t: t.update({name: t[name][:2] for name in t if name.startswith(f"{EXPERTS}down_proj_")}),
        r"tensor '.*down_proj.*' has shape \[2, ",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_tensor_at_fault_is_named(damage: str, folder: Path) -> None:
    change, message = DAMAGES[damage]
    rewrite_tensors(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_a_config_that_says_otherwise_is_refused(folder: Path) -> None:
    rewrite_quantization(folder, lambda stated: stated.update(modules_to_not_convert=["model.layers.*.mlp"]))
    with pytest.raises(
        CheckpointError, match=r"modules_to_not_convert says that 'model.layers.\*.mlp' stays"
    ):
        load_checkpoint(folder)
    rewrite_quantization(folder, lambda stated: stated.update(modules_to_not_convert=None, rounding="even"))
    with pytest.raises(CheckpointError, match=r"quantization_config\.rounding is unknown"):
        load_checkpoint(folder)


def test_a_config_beside_full_precision_weights_is_refused(tmp_path: Path) -> None:
    folder = checkpoints.causal_lm(tmp_path / "c", "gpt_oss", **SHAPE)
    state_quantization(folder, quant_method="mxfp4")
    with pytest.raises(
        CheckpointError, match=r"holds no tensor named '\.\.\._blocks': remove quantization_config"
    ):
        load_checkpoint(folder)
