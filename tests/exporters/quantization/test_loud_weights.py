"""Weights with one loud number a row, tables with a loud column: kept in full precision, said, proven, verified."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rankport.exporters.export import export
from rankport.exporters.quantization.coarse import is_coarse
from rankport.exporters.quantization.recipes import RECIPES, Choices
from rankport.exporters.quantization.tables import LOUD_TABLE, rounded_table
from rankport.exporters.verify import verify
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Target
from support import checkpoints
from support.effort import full_effort

WIDTH, COLUMN = 128, 5
VALUES, OUTPUTS = (f"model.layers.0.self_attn.{name}_proj" for name in "vo")


def normal(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows))


def beside_identity(width: int) -> Tensor:
    """A matrix that passes its input on, and has learnt a little."""
    return torch.eye(width) + 0.002 * normal(width, width)


def table_with_a_flag(rows: int) -> Tensor:
    """Rows whose sign in one column tells kinds of tokens apart."""
    table = 0.05 * normal(rows, WIDTH)
    table[:, COLUMN] = 4
    table[::7, COLUMN] = -4
    return table


@pytest.mark.parametrize(
    ("weight", "recipe", "coarse"),
    [
        (beside_identity(384), "int8", True),
        (beside_identity(384), "int8-fine", True),
        (beside_identity(384), "fp8", False),  # small steps for small numbers
        (torch.eye(384), "int8", False),  # nothing beside the identity
        (normal(96, 384), "int8", False),
        (normal(96, 384), "int4", False),
        (torch.zeros(96, 384), "int8", False),
        (beside_identity(384), "int4", True),
        (
            1000 * nn.functional.one_hot(torch.tensor(96 * [COLUMN]), 384),
            "fp8",
            False,
        ),  # nothing beside one column
        (normal(96, 384).exp(), "int8", False),  # heavy tails
        (beside_identity(2500), "int8", True),  # told by some of its rows
    ],
)
def test_a_matrix_is_coarse_where_one_number_a_row_drowns_the_others(
    weight: Tensor, recipe: str, coarse: bool
) -> None:
    assert (
        is_coarse(weight, torch.ones(weight.shape[1]), RECIPES[recipe], RECIPES[recipe].group_size) == coarse
    )


def test_columns_that_are_not_rounded_make_no_matrix_coarse() -> None:
    weight, quiet = normal(96, 384), torch.ones(384)
    weight[:, COLUMN] = 1000
    assert is_coarse(weight, quiet, RECIPES["int8"], None)
    quiet[COLUMN] = 0
    assert not is_coarse(weight, quiet, RECIPES["int8"], None)


def test_a_table_keeps_its_loud_column_and_rounds_the_others_as_if_it_were_not_there() -> None:
    weight = table_with_a_flag(200)
    table, plain = nn.Embedding.from_pretrained(weight), weight.clone()
    plain[:, COLUMN] = 0
    ids = torch.arange(200).reshape(2, 100)
    rows, without = rounded_table(table)(ids), rounded_table(nn.Embedding.from_pretrained(plain))(ids)
    assert torch.equal(rows[..., COLUMN], weight[ids][..., COLUMN])
    rows[..., COLUMN] = 0
    assert torch.equal(rows, without)
    assert float((without - plain[ids]).abs().max()) < 0.002
    assert not rounded_table(nn.Embedding.from_pretrained(plain)).has_loud
    assert not rounded_table(table, finds_loud=False).has_loud


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = {"hidden_size": WIDTH, "intermediate_size": 128, "head_dim": 32, "initializer_range": 0.06}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4}
    folder = tmp_path_factory.mktemp("loud")
    checkpoint = checkpoints.causal_lm(folder, "qwen3", num_hidden_layers=1, **shape, **heads)
    file = checkpoint / "model.safetensors"
    tensors = load_file(file)
    tensors[f"{VALUES}.weight"] = beside_identity(WIDTH)
    tensors[f"{OUTPUTS}.weight"] = beside_identity(WIDTH)
    table = tensors["model.embed_tokens.weight"]
    tensors["model.embed_tokens.weight"] = table_with_a_flag(len(table)).to(table.dtype)
    save_file(tensors, file, {"format": "pt"})
    return checkpoint


@pytest.mark.parametrize("tied", [False, True])
def test_a_whole_head_that_stays_is_named_and_verified(tied: bool, tmp_path: Path) -> None:
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "num_hidden_layers": 1}
    folder = checkpoints.causal_lm(tmp_path, "qwen3", hidden_size=WIDTH, tie_word_embeddings=tied, **heads)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    head = "model.embed_tokens.weight" if tied else "lm_head.weight"
    tensors[head] = table_with_a_flag(len(tensors[head]))
    save_file(tensors, file, {"format": "pt"})
    bundle = export(folder, tmp_path / "b", kind="generator", quantize="int8")
    assert bundle.manifest.quantization is not None
    assert bundle.manifest.quantization.kept == [*([LOUD_TABLE] if tied else []), "lm_head"]
    assert verify(bundle.path, folder).failures == ()


def low_bit(checkpoint: Path, out: Path, target: Target, precision: str | None = None) -> Bundle:
    limits = {"max_prefix_tokens": 40, "max_item_tokens": 24}
    return export(
        checkpoint,
        out,
        kind="ranker",
        label_ids=(9, 17),
        quantize="int8",
        target=target,
        precision=precision,
        **limits,
    )


def drift_of(bundle: Bundle) -> float:
    assert bundle.manifest.drift is not None
    error = bundle.manifest.drift[0].relative_error
    assert error is not None
    return error


def test_a_bundle_says_what_it_keeps_is_nearer_and_verified_as_it_was_made(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        none = Choices(frozenset(), loud_table=False)
        earlier.setitem(RECIPES, "int8", replace(RECIPES["int8"], repeats=none))
        old = low_bit(checkpoint, tmp_path / "old", "onnx-cpu")
    new = low_bit(checkpoint, tmp_path / "new", "onnx-cpu")
    kept = [bundle.manifest.quantization.kept for bundle in (old, new) if bundle.manifest.quantization]
    assert kept == [["label rows of the LM head"], ["label rows of the LM head", LOUD_TABLE, VALUES, OUTPUTS]]
    assert drift_of(new) < 0.5 * drift_of(old)
    for bundle in (old, new):
        assert verify(bundle.path, checkpoint).failures == ()


@pytest.mark.parametrize(
    ("target", "precision"),
    [
        ("onnx-cuda", None),
        pytest.param("onnx-cuda", "fp16", marks=full_effort),
        pytest.param("tensorrt", None, marks=full_effort),
    ],
)
def test_what_stays_is_beside_low_bits_on_each_target(
    checkpoint: Path, tmp_path: Path, target: Target, precision: str | None
) -> None:
    bundle = low_bit(checkpoint, tmp_path / "b", target, precision)
    quantization = bundle.manifest.quantization
    assert quantization is not None
    assert {LOUD_TABLE, VALUES, OUTPUTS} <= set(quantization.kept)
    assert sum(part.layers for part in quantization.parts if part.part == "linear") == 5
