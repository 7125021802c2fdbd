"""A checkpoint that is exported without a kind: exactly one kind must claim it."""

import json
from pathlib import Path

import pytest

from rankport.exporters.export import export
from rankport.exporters.kinds.claims import claimed_kind
from rankport.protos.errors import CheckpointError, InvalidRequest
from support import checkpoints
from support.forms import adapters


def test_a_head_makes_a_ranker_and_a_bare_body_an_item_encoder(tmp_path: Path) -> None:
    folders = {
        "lm": checkpoints.causal_lm(tmp_path / "lm", "qwen2"),
        "class": checkpoints.classifier(tmp_path / "class", "qwen2", num_labels=1),
        "body": checkpoints.body(tmp_path / "body", "bert"),
    }
    kinds = {name: claimed_kind(folder).name for name, folder in folders.items()}
    assert kinds == {"lm": "ranker", "class": "ranker", "body": "item-encoder"}


def test_an_adapter_is_of_its_bases_kind(tmp_path: Path) -> None:
    base = checkpoints.causal_lm(tmp_path / "base", "qwen2")
    adapters.lora(tmp_path / "adapter", base)
    assert claimed_kind(tmp_path / "adapter", base).name == "ranker"


def test_a_checkpoint_that_two_kinds_claim_names_both_and_the_flag(tmp_path: Path) -> None:
    folder = checkpoints.causal_lm(tmp_path / "c", "qwen3")
    modules = [{"path": name, "type": f"sentence_transformers.models.{name}"} for name in ("", "Pooling")]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InvalidRequest, match=r"Qwen3ForCausalLM\) may be ranker or item-encoder: .*--kind"):
        export(folder, tmp_path / "b", label_ids=(9, 17))
    assert not (tmp_path / "b").exists()


def test_a_cross_encoders_folder_is_a_rankers(tmp_path: Path) -> None:
    folder = checkpoints.causal_lm(tmp_path / "c", "qwen3")
    modules = [{"path": name, "type": f"sentence_transformers.models.{name}"} for name in ("", "LogitScore")]
    (folder / "modules.json").write_text(json.dumps(modules))
    assert claimed_kind(folder).name == "ranker"


def test_the_options_of_the_claiming_kind_hold(tmp_path: Path) -> None:
    folder = checkpoints.body(tmp_path / "c", "bert")
    with pytest.raises(InvalidRequest, match="--labels belongs to --kind ranker, not item-encoder"):
        export(folder, tmp_path / "b", labels=("yes", "no"))


def test_a_folder_that_is_no_checkpoint_is_refused_as_ever(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a folder"):
        claimed_kind(tmp_path / "absent")
