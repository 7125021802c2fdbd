"""A bare body leaves the known heads behind and says so; any other tensor without a place is an error."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForMaskedLM

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.config.heads import head_name
from rankport.protos.errors import CheckpointError
from support import checkpoints

HEADS = {
    "lm_head.weight": "lm_head",
    "score.weight": "score",
    "bert.pooler.dense.bias": "pooler",
    "cls.predictions.transform.dense.weight": "cls",
    "classifier.out_proj.weight": "classifier",
    "vocab_projector.bias": "vocab_projector",
    "lm_head.weight_scale": "lm_head",
    "head.dense.weight": "head",
    "decoder.bias": "decoder",
}
NO_HEADS = (
    "layers.0.mlp.up_proj.weight_scale",
    "encoder.layer.0.pooler.weight",
    "decoder.block.0.layer.0.weight",
    "embeddings.extra.weight",
    "lm_heads.weight",
    "linear.weight",  # of ColBERT alone, whose projection is read
)


def test_heads_are_known_by_name_and_nothing_of_a_layer_is_one() -> None:
    assert {name: head_name(name) for name in HEADS} == HEADS
    assert {head_name(name) for name in NO_HEADS} == {None}


def add(folder: Path, **tensors: torch.Tensor) -> None:
    file = folder / "model.safetensors"
    save_file(load_file(file) | tensors, file, metadata={"format": "pt"})


def test_a_body_of_a_ranker_says_which_head_it_left_out(tmp_path: Path) -> None:
    folder = checkpoints.classifier(tmp_path / "c", "qwen2", num_hidden_layers=1, num_labels=2)
    assert load_checkpoint(folder, head="none").notes == ("left out: score, 1 tensor, no part of the body",)


@pytest.mark.parametrize(
    ("label2id", "told"),
    [
        ({"bad": 0, "good": 1}, ()),
        ({"LABEL_0": 0, "LABEL_1": 1}, ()),  # of whoever named outputs in one field alone
        ({"bad": 1, "good": 0}, ("label 'bad' is output 0 by id2label, .*, and 1 by label2id",)),
    ],
)
def test_names_of_labels_that_two_fields_place_apart_are_noted(
    tmp_path: Path, label2id: dict[str, int], told: tuple[str, ...]
) -> None:
    names = {"id2label": {0: "bad", 1: "good"}, "label2id": label2id}
    notes = load_checkpoint(checkpoints.classifier(tmp_path, "bert", num_hidden_layers=1, **names)).notes
    assert len(notes) == len(told)
    assert all(re.fullmatch(f"config.json: {wanted}", note) for wanted, note in zip(told, notes, strict=True))


def test_a_body_of_a_masked_language_model_says_so_too(tmp_path: Path) -> None:
    config = AutoConfig.for_model(
        "bert", vocab_size=101, hidden_size=32, num_hidden_layers=1, num_attention_heads=4
    )
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    assert load_checkpoint(tmp_path, head="none").notes == ("left out: cls, 5 tensors, no part of the body",)


@pytest.mark.parametrize(
    ("model_type", "name", "why"),
    [
        ("qwen2", "layers.0.mlp.up_proj.weight_scale", "it belongs to quantized weights"),
        ("qwen2", "layers.0.self_attn.o_proj.bias", "the model would run without it"),
        ("bert", "encoder.layer.0.output.adapter.weight", "the model would run without it"),
        ("bert", "linear.weight", "the model would run without it"),
    ],
)
def test_an_item_encoder_is_refused_for_a_tensor_without_a_place(
    model_type: str, name: str, why: str, tmp_path: Path
) -> None:
    folder = checkpoints.body(tmp_path / "c", model_type, num_hidden_layers=1)
    add(folder, **{name: torch.ones(4)})
    with pytest.raises(CheckpointError, match=rf"'{name}'.*{why}"):
        load_checkpoint(folder, head="none")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8, torch.uint8], ids=str)
def test_a_weight_of_8_bits_without_its_scale_is_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = checkpoints.body(tmp_path / "c", "qwen2", num_hidden_layers=1)
    name = "layers.0.mlp.up_proj.weight"
    add(folder, **{name: load_file(folder / "model.safetensors")[name].to(dtype)})
    with pytest.raises(CheckpointError, match=f"'{name}' is stored as .*8.* and nothing says its scale"):
        load_checkpoint(folder, head="none")
    for sibling in (f"{name}_scale_inv", name.replace("weight", "SCB")):
        before = load_file(folder / "model.safetensors")
        add(folder, **{sibling: torch.ones(1)})
        with pytest.raises(CheckpointError, match=f"'{sibling}' beside it is its scale"):
            load_checkpoint(folder, head="none")
        save_file(before, folder / "model.safetensors", metadata={"format": "pt"})
