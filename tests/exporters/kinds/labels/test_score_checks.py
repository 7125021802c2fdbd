"""What verify tells of labels and scores beside logits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankport.exporters.checkpoints.checkpoint import Checkpoint, load_checkpoint
from rankport.exporters.kinds.labels import score_checks
from rankport.exporters.kinds.labels.score_checks import check_labels, check_scores
from rankport.protos.errors import CheckpointError, ParityError
from rankport.protos.scores import Transform, label_scores
from rankport.runtime.bundle.manifest import Labels, Score
from support import checkpoints

YES, NO = 4, 5
LOGITS = [np.array([[1.0, -2.0], [80.0, -9.0], [-90.0, 3.0]], np.float32), np.array([[0.0, 0.5]], np.float32)]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("words")
    return load_checkpoint(checkpoints.causal_lm(folder, "qwen2", tokenizer=True, num_hidden_layers=1))


def head(folder: Path, *names: str) -> Checkpoint:
    fields = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    return load_checkpoint(checkpoints.classifier(folder, "qwen2", num_hidden_layers=1, **fields))


def test_label_words_that_are_read_from_each_others_tokens_are_told(words: Checkpoint) -> None:
    for names in (["yes", "no"], [str(YES), str(NO)], ["yes", str(NO)]):
        check_labels(Labels(source="lm_head", names=names, ids=[YES, NO]), words)
    swapped = Labels(source="lm_head", names=["yes", "no"], ids=[NO, YES])
    with pytest.raises(ParityError, match=r"labels: 'yes' is read from token 5, which .* writes 'no'"):
        check_labels(swapped, words)


def test_outputs_of_a_head_that_are_named_otherwise_are_told(tmp_path: Path) -> None:
    source = head(tmp_path, "irrelevant", "relevant")
    check_labels(Labels(source="classification_head", names=["irrelevant", "relevant"], ids=[0, 1]), source)
    swapped = Labels(source="classification_head", names=["relevant", "irrelevant"], ids=[0, 1])
    with pytest.raises(ParityError, match=r"output 0 is named 'relevant', .* id2label says 'irrelevant'"):
        check_labels(swapped, source)


def test_two_outputs_of_one_name_are_refused(tmp_path: Path) -> None:
    source = head(tmp_path, "a", "b")
    source.model.config.id2label = {0: "same", 1: "same"}  # type: ignore[union-attr]
    labels = Labels(source="classification_head", names=["same", "other"], ids=[0, 1])
    with pytest.raises(CheckpointError, match="id2label names several outputs 'same'"):
        check_labels(labels, source)


@pytest.mark.parametrize(
    "score",
    [
        Score(kind="probability", transform="softmax"),
        Score(kind="probability", transform="sigmoid"),
        Score(kind="logit", transform="log-odds"),
        Score(kind="logit", transform="none"),
    ],
    ids=lambda score: score.transform,
)
def test_a_score_that_torch_would_not_make_is_told(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = Labels(source="lm_head", names=["yes", "no"], ids=[YES, NO], positive=1)
    check_scores(labels, score, LOGITS)

    def twice(logits: Any, positive: int, transform: Transform) -> Any:
        return label_scores(label_scores(logits, positive, transform)[:, None], 0, "sigmoid")

    monkeypatch.setattr(score_checks, "label_scores", twice)
    with pytest.raises(ParityError, match=f"score: {score.transform} of the logits .* for 'no'"):
        check_scores(labels, score, LOGITS)
