"""A CrossEncoder's folder: its label tokens, activation and limit are a ranker's, or refused by name."""

from pathlib import Path
from typing import Any

import pytest

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.ranker.options import RankerOptions
from rankport.exporters.kinds.ranker.plan import plan_ranker, ranker_prompt
from rankport.exporters.kinds.work import ExportPlan
from rankport.protos.errors import CheckpointError, InvalidRequest
from support import checkpoints, sentence_folders

OWN = "config_sentence_transformers.json"


def planned(folder: Path, **given: Any) -> ExportPlan:
    source, options = load_checkpoint(folder), RankerOptions(**given)
    return plan_ranker(source, ranker_prompt(source, options), options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = checkpoints.causal_lm(tmp_path / "c", "qwen3", tokenizer=True)
    sentence_folders.state_modules(made, ("Transformer", ""), ("LogitScore", "1_LogitScore"))
    sentence_folders.write(made, "1_LogitScore/config.json", {"true_token_id": 5, "false_token_id": 4})
    return made


def test_its_tokens_are_the_labels_unless_others_are_given(folder: Path) -> None:
    plan = planned(folder, positive="no")
    assert plan.labels is not None
    assert (plan.labels.ids, plan.labels.names, plan.labels.positive) == ([5, 4], ["no", "yes"], 0)
    sentence_folders.write(folder, "1_LogitScore/config.json", {"true_token_id": 4})
    plan = planned(folder)
    assert plan.labels is not None
    assert plan.score is not None
    assert (plan.labels.ids, plan.score.kind, plan.score.transform) == ([4], "probability", "sigmoid")
    plan = planned(folder, labels=("query", "item"))
    assert plan.labels is not None
    assert plan.labels.names == ["query", "item"]


@pytest.mark.parametrize(
    ("activation", "score"),
    [("linear.Identity", ("logit", "log-odds")), ("activation.Sigmoid", ("probability", "softmax"))],
)
def test_its_activation_is_the_kind_of_score(activation: str, score: tuple[str, str], folder: Path) -> None:
    sentence_folders.write(folder, OWN, {"activation_fn": f"torch.nn.modules.{activation}"})
    plan = planned(folder, positive="no")
    assert plan.score is not None
    assert (plan.score.kind, plan.score.transform) == score
    plan = planned(folder, positive="no", score="probability")
    assert plan.score is not None
    assert plan.score.kind == "probability"


def test_an_activation_in_the_models_config_counts_too(tmp_path: Path) -> None:
    folder = checkpoints.classifier(tmp_path / "c", "qwen3", num_labels=1)
    stated = {"activation_fn": "torch.nn.modules.linear.Identity", "version": "5.0.0"}
    sentence_folders.change(folder, "config.json", sentence_transformers=stated)
    plan = planned(folder)
    assert plan.score is not None
    assert (plan.score.kind, plan.score.transform) == ("logit", "none")


def test_its_limit_holds_for_prefix_and_item_together(folder: Path) -> None:
    sentence_folders.write(folder, "sentence_bert_config.json", {"max_seq_length": 60})
    limits = planned(folder, positive="no").limits
    assert (limits.max_prefix_tokens, limits.max_item_tokens) == (30, 30)
    with pytest.raises(InvalidRequest, match="reads 60 tokens of a pair, and cuts the rest"):
        planned(folder, positive="no", max_prefix_tokens=40, max_item_tokens=21)


def test_what_a_ranker_would_lack_is_refused_by_name(folder: Path) -> None:
    sentence_folders.write(folder, OWN, {"prompts": {"web": "Judge."}, "default_prompt_name": "web"})
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(InvalidRequest, match=r"puts 'Judge\.' before each pair .*--prompt bare"):
        planned(folder, positive="no")
    assert planned(folder, positive="no", prompt="bare").limits.max_item_tokens > 0
    sentence_folders.write(folder, OWN, {"model_type": "SentenceTransformer"})
    with pytest.raises(CheckpointError, match="model_type 'SentenceTransformer' is no CrossEncoder"):
        planned(folder, positive="no")
    sentence_folders.write(folder, OWN, {"truncate_dim": 8})
    with pytest.raises(CheckpointError, match="truncate_dim 8 is not known here: remove it"):
        planned(folder, positive="no")
    sentence_folders.write(folder, OWN, {"activation_fn": "my.Softplus"})
    with pytest.raises(
        CheckpointError, match=r"activation_fn 'my.Softplus' cannot be exported: there are Sigmoid"
    ):
        planned(folder, positive="no")
    sentence_folders.state_modules(folder, ("Transformer", ""), ("Dense", "1_Dense"))
    with pytest.raises(CheckpointError, match="has a Dense module, which a ranker's graph lacks"):
        planned(folder, label_ids=(4, 5), positive="4")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"do_lower_case": True}, r"do_lower_case True cannot be exported: put a normalizer .*Lowercase"),
        (
            {"config_args": {"num_labels": 3}},
            r"config_args: num_labels 3 is not known here: write it into config.json",
        ),
        ({"tokenizer_args": {"add_eos_token": True}}, r"add_eos_token True .* save the tokenizer with it"),
        ({"processing_kwargs": {"text": {"max_length": 9}}}, r"text .* set max_seq_length to cut texts"),
        ({"max_seq_lenght": 8}, r"max_seq_lenght 8 is not known here"),
    ],
)
def test_settings_beside_its_transformer_that_a_bundle_lacks_are_refused(
    settings: dict[str, object], reason: str, folder: Path
) -> None:
    sentence_folders.write(folder, "sentence_bert_config.json", settings)
    with pytest.raises(CheckpointError, match=reason):
        planned(folder, positive="no")
    sentence_folders.write(
        folder, "sentence_bert_config.json", {"do_lower_case": False, "unpad_inputs": None}
    )
    assert planned(folder, positive="no").limits.max_item_tokens > 0
