"""Labels and head of a checkpoint: what fits is taken, what does not is refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rankport.exporters.checkpoints.checkpoint import Checkpoint, load_checkpoint
from rankport.exporters.kinds.classifier.checks import check_classifier
from rankport.exporters.kinds.classifier.head import resolve_head
from rankport.exporters.kinds.classifier.options import ClassifierOptions
from rankport.exporters.kinds.classifier.plan import classifier_module, plan_classifier
from rankport.exporters.kinds.classifier.prompt import classifier_prompt
from rankport.exporters.kinds.classifier.proof.class_checks import check_classes
from rankport.exporters.kinds.classifier.proof.reference import head_reference
from rankport.exporters.kinds.texts.pairs.reference import PairIds
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.manifest import ClassHead
from support import checkpoints, sentence_folders
from support.reading.class_folders import LEVELS, level_classifier, pooled_levels


def loaded(folder: Path) -> Checkpoint:
    return load_checkpoint(folder, head="stated")


def test_labels_and_head_of_a_class_are_its_configs(levels: Path) -> None:
    labels, head = resolve_head(loaded(levels), None)
    assert (labels.names, labels.ids) == (list(LEVELS), [0, 1, 2])
    assert head == ClassHead(exclusive=True)
    renamed, _ = resolve_head(loaded(levels), ("a", "b", "c"))
    assert renamed.names == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("a", "b"), "--labels a,b: 2 names, and the head has 3 outputs: name each once, in order"),
        (("a", "b", "a"), "--labels a,b,a: a name is given twice"),
    ],
)
def test_names_that_do_not_fit_the_head_are_refused(
    levels: Path, given: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        resolve_head(loaded(levels), given)


@pytest.mark.parametrize(
    ("id2label", "message"),
    [
        ({"1": "low", "2": "medium", "3": "high"}, "the outputs 1, 2, 3: must count from 0 to 2"),
        ({"-1": "low", "0": "medium", "1": "high"}, "the outputs -1, 0, 1: must count from 0 to 2"),
        ({"0": "low", "1": "low", "2": "high"}, "several outputs 'low'"),
    ],
)
@pytest.mark.parametrize("pooled", [False, True])
def test_names_of_other_places_are_refused(
    bert: Path, tmp_path: Path, id2label: dict[str, str], message: str, pooled: bool
) -> None:
    """Each would be of another output than the one that it is of in training."""
    folder = pooled_levels(bert, tmp_path / "p", labels=None) if pooled else level_classifier(tmp_path / "c")
    sentence_folders.change(folder, "config.json", id2label=id2label)
    with pytest.raises(CheckpointError, match=f"id2label names {message}"):
        resolve_head(loaded(folder), None)


@pytest.mark.parametrize(
    "stated",
    [
        {"problem_type": "multi_label_classification"},
        {"sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid"},
    ],
    ids=["problem type", "activation of a CrossEncoder"],
)
def test_labels_that_do_not_exclude_each_other_stand_alone(tmp_path: Path, stated: dict[str, Any]) -> None:
    folder = level_classifier(tmp_path / "c", **stated)
    assert resolve_head(loaded(folder), None)[1].exclusive is False


def test_a_regression_is_refused_by_name(tmp_path: Path) -> None:
    folder = level_classifier(tmp_path / "c", problem_type="regression")
    with pytest.raises(CheckpointError, match="problem_type is regression, whose output is no class"):
        resolve_head(loaded(folder), None)


def test_a_decoder_is_sent_to_the_ranker_which_shares_its_prefix(tmp_path: Path) -> None:
    folder = checkpoints.classifier(tmp_path / "c", "qwen2", tokenizer=True, num_hidden_layers=1)
    with pytest.raises(
        CheckpointError, match=r"is a decoder.* --kind ranker shares its prefix.* classifies too"
    ):
        resolve_head(loaded(folder), None)


def test_a_body_without_dense_layers_has_no_head(bert: Path, tmp_path: Path) -> None:
    plain = sentence_folders.pooled(bert, tmp_path / "p")
    with pytest.raises(CheckpointError, match=r"BertModel in .* has no head"):
        resolve_head(loaded(plain), None)


@pytest.mark.parametrize("pooling", ["cls", "mean", "lasttoken"])
def test_pooled_states_go_through_the_dense_layers(bert: Path, tmp_path: Path, pooling: str) -> None:
    source = loaded(pooled_levels(bert, tmp_path / "p", pooling))
    labels, head = resolve_head(source, None)
    assert labels.names == list(LEVELS)
    assert head.pooling == {"lasttoken": "last-k"}.get(pooling, pooling)
    runs = [np.array([2, 8, 9, 10, 3]), np.array([2, 7, 3])]
    expected = head_reference(source, head, 3).logits([PairIds(run, None) for run in runs])
    ids, mask = torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 5, dtype=torch.int64)
    for row, run in enumerate(runs):
        ids[row, : len(run)], mask[row, : len(run)] = torch.tensor(run), 1
    with torch.no_grad():
        made = classifier_module(source, head, 3)(ids, mask).numpy()
    assert made.shape == (2, 3)
    np.testing.assert_allclose(made, expected, atol=1e-5)


def test_token_types_reach_a_pooled_body(bert: Path, tmp_path: Path) -> None:
    source = loaded(pooled_levels(bert, tmp_path / "p"))
    head = resolve_head(source, None)[1]
    run, types = np.array([2, 8, 3, 9, 3]), np.array([0, 0, 0, 1, 1])
    reference = head_reference(source, head, 3)
    expected, untyped = (reference.logits([PairIds(run, own)]) for own in (types, None))
    assert np.abs(expected - untyped).max() > 1e-3
    with torch.no_grad():
        one = torch.ones(1, 5, dtype=torch.int64)
        made = classifier_module(source, head, 3)(torch.tensor(run)[None], one, torch.tensor(types)[None])
    np.testing.assert_allclose(made.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"labels": ["a", "b"]}, CheckpointError, "labels has 2 labels, and the last Dense layer 3 outputs"),
        (
            {"labels": None},
            InvalidRequest,
            "does not name the 3 outputs of its last Dense layer: give --labels",
        ),
        ({"labels": ["a", "a", "b"]}, CheckpointError, "labels.* has a name twice"),
        ({"truncate_dim": 2}, CheckpointError, "Normalize module or truncate_dim behind its Dense layers"),
    ],
)
def test_folders_that_do_not_fit_are_refused(
    bert: Path, tmp_path: Path, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    folder = pooled_levels(bert, tmp_path / "p", **settings)
    with pytest.raises(error, match=message):
        resolve_head(loaded(folder), None)


def test_outputs_that_are_probabilities_already_are_refused(bert: Path, tmp_path: Path) -> None:
    folder = pooled_levels(bert, tmp_path / "p")
    sentence_folders.change(folder, "3_Dense/config.json", activation_function="torch.nn.Sigmoid")
    with pytest.raises(
        CheckpointError, match="activation_function is Sigmoid, so its outputs are probabilities"
    ):
        resolve_head(loaded(folder), None)


def test_names_of_the_bodys_config_are_taken_where_the_folder_has_none(bert: Path, tmp_path: Path) -> None:
    folder = pooled_levels(bert, tmp_path / "p", labels=None)
    sentence_folders.change(folder, "config.json", id2label={"1": "b", "0": "a", "2": "c"})
    assert resolve_head(loaded(folder), None)[0].names == ["a", "b", "c"]


def test_limits_are_the_tokenizers_within_positions(levels: Path, bert: Path, tmp_path: Path) -> None:
    source, options = loaded(levels), ClassifierOptions()
    plan = plan_classifier(source, classifier_prompt(source, options), options)
    assert (plan.limits.max_prefix_tokens, plan.limits.max_item_tokens, plan.pair) == (0, 32, None)
    paired = ClassifierOptions(texts="pair", max_pair_tokens=20, cut="only-second")
    plan = plan_classifier(source, classifier_prompt(source, paired), paired)
    assert plan.pair is not None
    assert (plan.pair.max_tokens, plan.pair.cut, plan.limits.max_prefix_tokens) == (20, "only-second", 20)
    many = ClassifierOptions(max_item_tokens=4096)
    with pytest.raises(
        CheckpointError, match="--max-item-tokens 4096 exceed the checkpoint's position encodings"
    ):
        plan_classifier(source, classifier_prompt(source, many), many)


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="go with --texts pair; one text has --max-item-tokens"):
        ClassifierOptions(max_pair_tokens=9)
    with pytest.raises(InvalidRequest, match="both texts are cut together: give --max-pair-tokens"):
        ClassifierOptions(texts="pair", max_item_tokens=9)
    with pytest.raises(InvalidRequest, match="the tokenizer frames the two texts: leave it out"):
        ClassifierOptions(texts="pair", prompt="bare")


def test_probabilities_are_compared_with_torch() -> None:
    logits = np.array([[1000.0, -1000.0, 3.0], [0.1, 0.2, -0.3]], np.float32)
    check_classes(ClassHead(exclusive=True), [logits])
    check_classes(ClassHead(exclusive=False), [logits])


def test_judged_texts_are_checked_before_a_model_is_loaded(levels: Path, tmp_path: Path) -> None:
    file = tmp_path / "judged.jsonl"
    rows = [
        {"text": "a", "label": "high"},
        {"text": "a", "label": "none"},
        {"texts": ["a", "b"], "label": "low"},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InvalidRequest) as told:
        check_classifier(levels, ClassifierOptions(judged=file))
    assert "2 of 3 lines cannot be used" in str(told.value)
    assert "line 2: label 'none' is none of low, medium, high" in str(told.value)
    assert "line 3: is a pair: give --texts pair" in str(told.value)
    with pytest.raises(InvalidRequest, match="line 1: is one text, and --texts pair reads two"):
        check_classifier(levels, ClassifierOptions(judged=file, texts="pair"))
