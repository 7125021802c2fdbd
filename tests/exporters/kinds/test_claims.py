"""A checkpoint that is exported without a kind: one kind must claim it, and optimum's word tells several apart."""

import json
import sys
from pathlib import Path

import pytest

from rankport.exporters.export import export
from rankport.exporters.kinds.claims import claimed_kind
from rankport.exporters.kinds.table import EXPORT_KINDS
from rankport.exporters.kinds.tasks import TASK_KINDS
from rankport.protos.errors import CheckpointError, InvalidRequest
from support import checkpoints, sentence_folders
from support import sentence_folders as folders
from support.forms import adapters
from support.reading.class_folders import pooled_levels


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
    folders.state_modules(folder, ("Transformer", ""), ("Pooling", "1_Pooling"))
    with pytest.raises(InvalidRequest, match=r"Qwen3ForCausalLM\) may be ranker or item-encoder: .*--kind"):
        export(folder, tmp_path / "b", label_ids=(9, 17))
    assert not (tmp_path / "b").exists()


def test_the_choice_is_told_with_its_reason(tmp_path: Path) -> None:
    decoder, body = checkpoints.causal_lm(tmp_path / "lm", "qwen3"), checkpoints.body(tmp_path / "b", "bert")
    assert str(claimed_kind(decoder)) == (
        "kind: ranker (optimum: text-generation of transformers; Qwen3ForCausalLM with an LM head)"
    )
    assert (
        claimed_kind(body).reason == "optimum: feature-extraction of transformers; BertModel without a head"
    )
    told: list[str] = []
    with pytest.raises(
        InvalidRequest, match="pooling"
    ):  # the export says the kind, and goes on to what is missing
        export(body, tmp_path / "bundle", on_progress=told.append)
    assert told[0].startswith("kind: item-encoder (optimum: feature-extraction")


def test_an_embedding_model_that_names_an_lm_class_is_an_item_encoder_by_its_library(tmp_path: Path) -> None:
    folder = checkpoints.causal_lm(tmp_path / "c", "qwen3")
    folders.state_modules(folder, ("Transformer", ""), ("Pooling", "1_Pooling"))
    (folder / "config_sentence_transformers.json").write_text("{}")
    claimed = claimed_kind(folder)
    assert claimed.name == "item-encoder"
    assert claimed.reason.startswith("optimum: feature-extraction of sentence_transformers; Qwen3ForCausalLM")
    assert claimed.reason.endswith("; --kind ranker is possible too")


def test_an_adapter_in_a_folder_of_sentence_transformers_is_of_the_kind_of_that_folder(
    tmp_path: Path,
) -> None:
    base = checkpoints.causal_lm(tmp_path / "base", "qwen3")
    folder = adapters.lora(tmp_path / "adapter", base, kind="body").folder
    folders.state_modules(folder, ("Transformer", ""), ("Pooling", "1_Pooling"))
    (folder / "config_sentence_transformers.json").write_text("{}")
    claimed = claimed_kind(folder, base)
    assert claimed.name == "item-encoder"
    assert claimed.reason.startswith("optimum: feature-extraction of sentence_transformers; Qwen3ForCausalLM")


@pytest.mark.parametrize("architecture", ["NeverHeardOfModel", "__name__", "pipeline"])
def test_where_optimum_knows_nothing_the_claims_decide(tmp_path: Path, architecture: str) -> None:
    folder = checkpoints.body(tmp_path / "c", "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": [architecture]}))
    claimed = claimed_kind(folder)
    assert claimed.name == "item-encoder"
    assert f"optimum knows no task of {architecture}" in claimed.reason


def test_every_kind_that_does_a_task_is_in_the_table() -> None:
    spoken_for = {name for names in TASK_KINDS.values() for name in names}
    unknown_to_optimum, asked_for_by_name = {"two-tower", "set-ranker", "list-ranker"}, {"generator"}
    assert spoken_for == {kind.name for kind in EXPORT_KINDS} - unknown_to_optimum - asked_for_by_name


def test_without_optimum_the_claims_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optimum.exporters.tasks", None)
    claimed = claimed_kind(checkpoints.body(tmp_path / "c", "bert"))
    assert (claimed.name, "optimum cannot be asked" in claimed.reason) == ("item-encoder", True)


def test_a_cross_encoders_folder_is_a_rankers(tmp_path: Path) -> None:
    folder = checkpoints.causal_lm(tmp_path / "c", "qwen3")
    folders.state_modules(folder, ("Transformer", ""), ("LogitScore", "1_LogitScore"))
    assert claimed_kind(folder).name == "ranker"


def test_the_options_of_the_claiming_kind_hold(tmp_path: Path) -> None:
    folder = checkpoints.body(tmp_path / "c", "bert")
    with pytest.raises(
        InvalidRequest,
        match="--labels belongs to --kind ranker or cross-encoder or classifier, not item-encoder",
    ):
        export(folder, tmp_path / "b", labels=("yes", "no"))


def test_a_folder_that_is_no_checkpoint_is_refused_as_ever(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a folder"):
        claimed_kind(tmp_path / "absent")


def test_several_labels_may_be_classes_and_one_output_is_a_score(tmp_path: Path) -> None:
    many = checkpoints.classifier(tmp_path / "many", "bert", num_labels=3)
    one = checkpoints.classifier(tmp_path / "one", "bert", num_labels=1)
    with pytest.raises(InvalidRequest, match="may be cross-encoder or classifier: say which with --kind"):
        claimed_kind(many)
    assert claimed_kind(one).name == "cross-encoder"


def test_pooled_states_with_labels_are_a_classifier(tmp_path: Path) -> None:
    base = sentence_folders.bert(tmp_path / "base")
    assert claimed_kind(pooled_levels(base, tmp_path / "labels")).name == "classifier"
    assert claimed_kind(pooled_levels(base, tmp_path / "none", labels=None)).name == "item-encoder"
