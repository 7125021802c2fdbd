"""Full-precision checkpoints as they are published: shards, half precision, other heads, bodies and vocabularies."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.export import export
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from support import checkpoints
from support.forms import adapters, pruned

INDEX = "model.safetensors.index.json"
LIMITS = {"max_prefix_tokens": 40, "max_item_tokens": 24}
TITLES = ["senior data engineer", "nurse", "chief cook of the sales manager"]


def whole(tmp_path: Path, **overrides: Any) -> Path:
    return checkpoints.causal_lm(tmp_path / "whole", "qwen2", tokenizer=True, **overrides)


def sharded(source: Path, out: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Writes the checkpoint in several files, as transformers writes large ones."""
    model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
    model.save_pretrained(out, max_shard_size="20KB")
    (out / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    assert len(list(out.glob("model-*.safetensors"))) > 2
    return out


def edit_index(folder: Path, **places: str | None) -> None:
    """Overwrites, adds or (None) removes entries of the index."""
    index = json.loads((folder / INDEX).read_text())
    merged = {**index["weight_map"], **places}
    index["weight_map"] = {name: file for name, file in merged.items() if file is not None}
    (folder / INDEX).write_text(json.dumps(index))


def weights(folder: Path) -> dict[str, Tensor]:
    return dict(load_checkpoint(folder).model.state_dict())


def test_shards_hold_the_same_model(tmp_path: Path) -> None:
    source = whole(tmp_path)
    expected, actual = weights(source), weights(sharded(source, tmp_path / "shards"))
    assert expected.keys() == actual.keys()
    assert all(torch.equal(tensor, actual[name]) for name, tensor in expected.items())


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = sharded(whole(tmp_path), tmp_path / "shards")
    lost = sorted(folder.glob("model-*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(
        CheckpointError, match=f"names shard '{lost.name}', which is not there: copy it again"
    ):
        load_checkpoint(folder)


def test_weights_beside_those_that_are_read_are_noted(tmp_path: Path) -> None:
    folder = sharded(whole(tmp_path), tmp_path / "shards")
    assert load_checkpoint(folder).notes == ()
    for name in ("consolidated.safetensors", "model-00099-of-00099.safetensors"):
        save_file({"other": torch.zeros(2)}, folder / name)
    note = f"not read: consolidated.safetensors, model-00099-of-00099.safetensors, beside {INDEX}"
    assert load_checkpoint(folder).notes == (note,)


def test_weights_in_one_file_and_in_shards_are_refused(tmp_path: Path) -> None:
    source = whole(tmp_path)
    folder = sharded(source, tmp_path / "shards")
    shutil.copy(source / "model.safetensors", folder)
    with pytest.raises(CheckpointError, match=r"has model\.safetensors and .* delete the one that is stale"):
        load_checkpoint(folder)


NORM = "model.norm.weight"


def test_a_tensor_that_the_index_lists_and_no_shard_holds_is_named(tmp_path: Path) -> None:
    folder = sharded(whole(tmp_path), tmp_path / "shards")
    places = json.loads((folder / INDEX).read_text())["weight_map"]
    tensors = load_file(folder / places[NORM])
    del tensors[NORM]
    save_file(tensors, folder / places[NORM], metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=f"names tensor '{NORM}', which {places[NORM]} lacks: copy"):
        load_checkpoint(folder)


def test_a_head_that_the_index_lists_and_no_shard_holds_is_noted_where_it_is_tied(tmp_path: Path) -> None:
    folder = sharded(whole(tmp_path), tmp_path / "shards")
    head = "lm_head.weight"
    file = folder / json.loads((folder / INDEX).read_text())["weight_map"][head]
    save_file(
        {name: tensor for name, tensor in load_file(file).items() if name != head},
        file,
        metadata={"format": "pt"},
    )
    with pytest.raises(CheckpointError, match=f"lacks tensor '{head}'"):
        load_checkpoint(folder)
    pruned.edit_config(folder, tie_word_embeddings=True)
    loaded = load_checkpoint(folder)
    assert loaded.notes == (f"{INDEX} names {head}, which no file holds",)
    model: Any = loaded.model
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_shard_outside_the_folder_is_refused(tmp_path: Path) -> None:
    folder = sharded(whole(tmp_path), tmp_path / "shards")
    edit_index(folder, **{NORM: "../whole/model.safetensors"})
    with pytest.raises(CheckpointError, match="lies outside the folder"):
        load_checkpoint(folder)


def test_a_tensor_of_a_shard_that_the_index_leaves_out_is_loaded_or_missed_by_name(tmp_path: Path) -> None:
    source = whole(tmp_path)
    folder = sharded(source, tmp_path / "shards")
    edit_index(folder, **{NORM: None})
    try:
        loaded = weights(folder)[NORM]
    except CheckpointError as error:
        assert NORM in str(error)  # noqa: PT017 - either outcome is sound, random weights are not
    else:
        assert torch.equal(loaded, weights(source)[NORM])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_to_fp32_and_nothing_else(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = sharded(whole(tmp_path), tmp_path / "half", dtype)
    loaded = load_checkpoint(folder)
    assert loaded.dtype == str(dtype).removeprefix("torch.")
    stored = {
        name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()
    }
    for name, tensor in loaded.model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, stored[name].float())


def test_bf16_shards_export(tmp_path: Path) -> None:
    folder = sharded(whole(tmp_path), tmp_path / "half", torch.bfloat16)
    bundle = export(folder, tmp_path / "bundle", kind="ranker", labels=("yes", "no"), **LIMITS)
    assert bundle.manifest.source.dtype == "bfloat16"
    assert bundle.manifest.parity is not None
    assert max(mode.max_abs_error for mode in bundle.manifest.parity.modes) <= 1e-4


def sentence_transformer(folder: Path, pooling: str, *modules: str) -> Path:
    """Adds what sentence-transformers stores beside a model."""
    (folder / "1_Pooling").mkdir()
    config = {"word_embedding_dimension": 32, f"pooling_mode_{pooling}": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    types = [{"path": paths[name], "type": f"sentence_transformers.models.{name}"} for name in modules]
    (folder / "modules.json").write_text(json.dumps(types))
    return folder


POOLED = {
    "decoder-shaped": ("qwen3", "lasttoken", {"head_dim": 20}),
    "bidirectional": ("bert", "mean_tokens", {}),
}


@pytest.mark.parametrize("form", POOLED)
def test_a_sentence_transformers_folder_exports_as_it_pools(form: str, tmp_path: Path) -> None:
    model_type, pooling, overrides = POOLED[form]
    folder = checkpoints.body(tmp_path / "body", model_type, tokenizer=True, num_hidden_layers=1, **overrides)
    sentence_transformer(folder, pooling, "Transformer", "Pooling", "Normalize")
    bundle = export(
        folder, tmp_path / "bundle", kind="item-encoder", output_dtype="float32", max_item_tokens=32
    )
    with ItemEncoder.load(bundle, config=EngineConfig(threads=1)) as encoder:
        vectors = encoder.encode(TITLES)[:, 0]
    model, tokenizer = load_checkpoint(folder, head="none").model, checkpoints.tiny_tokenizer()
    for title, vector in zip(TITLES, vectors, strict=True):
        states = adapters.outputs(model, torch.tensor([tokenizer.encode(title).ids]))[0]
        pooled = states[-1] if pooling == "lasttoken" else states.mean(0)
        np.testing.assert_allclose(vector, torch.nn.functional.normalize(pooled, dim=0).numpy(), atol=1e-5)


def test_a_classification_head_is_loaded_as_stored(tmp_path: Path) -> None:
    folder = checkpoints.classifier(tmp_path / "c", "llama", num_labels=3)
    loaded = load_checkpoint(folder)
    assert loaded.head == "classification_head"
    assert loaded.architecture == "LlamaForSequenceClassification"
    stored = load_file(folder / "model.safetensors")["score.weight"]
    assert torch.equal(loaded.model.state_dict()["score.weight"], stored)


def enlarged(tmp_path: Path, *, tied: bool) -> Path:
    """Semantic-id tokens appended behind the vocabulary: 3 levels of 8 codes."""
    source = whole(tmp_path, tie_word_embeddings=tied, num_hidden_layers=1)
    model = AutoModelForCausalLM.from_pretrained(source)
    model.resize_token_embeddings(checkpoints.VOCABULARY + 24, mean_resizing=False)
    model.save_pretrained(tmp_path / "enlarged")
    return tmp_path / "enlarged"


@pytest.mark.parametrize("tied", [True, False])
def test_an_enlarged_vocabulary_keeps_its_ties(tied: bool, tmp_path: Path) -> None:
    folder = enlarged(tmp_path, tied=tied)
    loaded = load_checkpoint(folder)
    model: Any = loaded.model
    assert loaded.vocab_size == checkpoints.VOCABULARY + 24
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    stored = load_file(folder / "model.safetensors")
    assert ("lm_head.weight" in stored) == (not tied)
    assert torch.equal(model.model.embed_tokens.weight, stored["model.embed_tokens.weight"])


def test_labels_beyond_the_old_vocabulary_export_and_those_beyond_the_new_one_are_refused(
    tmp_path: Path,
) -> None:
    folder = enlarged(tmp_path, tied=True)
    bundle = export(folder, tmp_path / "bundle", kind="ranker", label_ids=(102, 124), **LIMITS)
    assert bundle.manifest.labels is not None
    assert bundle.manifest.labels.ids == [102, 124]
    assert bundle.manifest.parity is not None
    assert max(mode.max_abs_error for mode in bundle.manifest.parity.modes) <= 1e-4
    with pytest.raises(InvalidRequest, match="token 125, outside the vocabulary of 125 tokens"):
        export(folder, tmp_path / "beyond", kind="ranker", label_ids=(102, 125), **LIMITS)
