"""The owner's tokenizer: as transformers loads the folder, where it says how; else the file alone."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rankport.exporters.proof.same_tokens import owner_encode, tokenizer_differences
from rankport.protos.errors import CheckpointError
from support.checkpoints import tiny_tokenizer


def test_a_file_alone_encodes_without_frame_padding_or_cut(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.enable_padding(length=8)
    tokenizer.enable_truncation(2)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert owner_encode(tmp_path / "tokenizer.json")(["senior data engineer", "nurse"]) == [[14, 16, 8], [9]]


def test_a_folder_that_says_how_is_loaded_by_transformers(tmp_path: Path) -> None:
    tiny_tokenizer().save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]", "do_lower_case": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert owner_encode(tmp_path / "tokenizer.json")(["senior data engineer", "nurse"]) == [[14, 16, 8], [9]]


def test_a_class_that_does_not_fit_the_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    tiny_tokenizer().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "AlbertTokenizer"}))
    with pytest.raises(CheckpointError, match=r"transformers cannot load this tokenizer: .* tokenizer_class"):
        owner_encode(tmp_path / "tokenizer.json")


def test_fields_of_a_model_that_transformers_does_not_know_are_not_the_tokenizers(tmp_path: Path) -> None:
    tiny_tokenizer().save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    model = {"model_type": "causallmexpansion", "max_position_embeddings": 128, "rope_theta": 5e5}
    model["rope_scaling"] = scaling | {"original_max_position_embeddings": 64}
    (tmp_path / "config.json").write_text(json.dumps(model))
    assert owner_encode(tmp_path / "tokenizer.json")(["senior data engineer", "nurse"]) == [[14, 16, 8], [9]]


def test_tokens_that_stand_beside_the_file_alone_are_asked_for(tmp_path: Path) -> None:
    file, stale = tmp_path / "tokenizer.json", tmp_path / "stale"
    tiny_tokenizer().save(str(file))
    shutil.copytree(tmp_path, stale)
    listed = {str(tiny_tokenizer().get_vocab_size()): {"content": "<a_0>", "special": False}}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": listed}
    (stale / "tokenizer_config.json").write_text(json.dumps(config))
    bundle: Any = SimpleNamespace(manifest=SimpleNamespace(tokenizer="tokenizer.json"), file=lambda _: file)
    source: Any = SimpleNamespace(tokenizer_file=stale / "tokenizer.json")
    (said,) = tokenizer_differences(bundle, source)
    assert "1 of " in said
    assert "'<a_0>' is [" in said
    source.tokenizer_file = file
    assert tokenizer_differences(bundle, source) == []
