"""Labels and scores of checkpoints: which label a score speaks for, and how it is made."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from rankport.exporters.checkpoints.checkpoint import Checkpoint, load_checkpoint
from rankport.exporters.kinds.labels.score import positive_of_head, positive_of_tokens, resolve_score
from rankport.exporters.kinds.ranker.options import RankerOptions
from rankport.exporters.kinds.ranker.read_out import resolve_labels
from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.manifest import Labels, Score
from support import checkpoints

SIGMOID, IDENTITY = (
    {"sbert_ce_default_activation_function": f"torch.nn.modules.{name}"}
    for name in ("activation.Sigmoid", "linear.Identity")
)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes classifiers of given config fields, and one LM; each once."""

    @cache
    def make(**overrides: Any) -> Checkpoint:
        folder: Path = tmp_path_factory.mktemp("checkpoint")
        labels = overrides.pop("labels", None)
        if labels is None:
            return load_checkpoint(checkpoints.causal_lm(folder, "qwen2", num_hidden_layers=1))
        names = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
        return load_checkpoint(
            checkpoints.classifier(folder, "qwen2", num_hidden_layers=1, **names, **overrides)
        )

    return make


def answer(checkpoint: Checkpoint, **options: Any) -> tuple[Labels, Score]:
    chosen = RankerOptions(**options)
    labels = resolve_labels(checkpoint, chosen, None, None)
    return labels, resolve_score(checkpoint, chosen.score, labels)


@pytest.mark.parametrize(
    ("fields", "options", "positive", "kind", "transform"),
    [
        ({"labels": ("irrelevant", "relevant")}, {}, 1, "probability", "softmax"),
        ({"labels": ("irrelevant", "relevant")}, {"positive": "irrelevant"}, 0, "probability", "softmax"),
        ({"labels": ("irrelevant", "relevant")}, {"score": "logit"}, 1, "logit", "log-odds"),
        ({"labels": ("LABEL_0",)}, {}, 0, "probability", "sigmoid"),
        ({"labels": ("LABEL_0",)}, {"score": "logit"}, 0, "logit", "none"),
        ({"labels": ("LABEL_0",), "problem_type": "regression"}, {}, 0, "logit", "none"),
        (
            {"labels": ("LABEL_0",), "problem_type": "regression"},
            {"score": "probability"},
            0,
            "probability",
            "sigmoid",
        ),
        (
            {"labels": ("a", "b", "c"), "problem_type": "multi_label_classification"},
            {"positive": "2"},
            2,
            "probability",
            "sigmoid",
        ),
        (
            {"labels": ("a", "b", "c"), "problem_type": "multi_label_classification"},
            {"positive": "B", "score": "logit"},
            1,
            "logit",
            "none",
        ),
        (
            {"labels": ("a", "b", "c"), "problem_type": "single_label_classification"},
            {"positive": "a"},
            0,
            "probability",
            "softmax",
        ),
        # A CrossEncoder has its activation of each output by itself.
        ({"labels": ("a", "b", "c"), **SIGMOID}, {"positive": "c"}, 2, "probability", "sigmoid"),
        ({"labels": ("a", "b"), **SIGMOID}, {"positive": "a", "score": "logit"}, 0, "logit", "none"),
        ({"labels": ("a", "b"), **IDENTITY}, {"positive": "a"}, 0, "logit", "log-odds"),
        ({}, {"label_ids": (7,)}, 0, "probability", "sigmoid"),
        ({}, {"label_ids": (7,), "score": "logit"}, 0, "logit", "none"),
        ({}, {"label_ids": (7, 9)}, 0, "probability", "softmax"),
        ({}, {"label_ids": (7, 9), "positive": "9", "score": "logit"}, 1, "logit", "log-odds"),
    ],
)
def test_the_score_is_what_the_checkpoint_and_the_options_say(
    places: Any, fields: Any, options: Any, positive: int, kind: str, transform: str
) -> None:
    labels, score = answer(places(**fields), **options)
    assert (labels.positive, score.kind, score.transform) == (positive, kind, transform)


@pytest.mark.parametrize(
    ("names", "positive"),
    [
        (["LABEL_0", "LABEL_1"], 1),
        (["label_1", "label_0"], 0),
        (["not_relevant", "Relevant"], 1),
        (["NO", "YES"], 1),
        (["True", "False"], 0),
        (["negative", "positive"], 1),
        (["0", "1"], 1),
        (["contradiction", "ENTAILMENT", "neutral"], 1),
        (["anything"], 0),
    ],
)
def test_a_plainly_named_label_is_the_positive_one(names: list[str], positive: int) -> None:
    assert positive_of_head(names, None) == positive


@pytest.mark.parametrize(
    ("names", "wanted", "message"),
    [
        (
            ["bad", "good"],
            None,
            "labels bad, good, and none of them .*--positive, for example --positive good",
        ),
        (["LABEL_0", "LABEL_1", "LABEL_2"], None, "none of them are plainly the positive one"),
        (["yes", "relevant"], None, "several of them are plainly the positive one"),
        (
            ["bad", "good"],
            "great",
            "--positive 'great' is none of the labels bad, good, nor of their ids 0, 1",
        ),
        (["bad", "good"], "2", "--positive '2' is none of the labels"),
    ],
)
def test_a_head_without_a_plain_positive_label_asks_for_it(
    names: list[str], wanted: str | None, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        positive_of_head(names, wanted)


def test_the_first_label_word_is_the_positive_one_unless_another_looks_so() -> None:
    assert positive_of_tokens(["relevant", "rest"], [7, 9], None) == 0
    assert positive_of_tokens(["good", "bad"], [7, 9], None) == 0
    assert positive_of_tokens(["no", "yes"], [7, 9], "yes") == 1
    assert positive_of_tokens(["no", "yes"], [7, 9], "7") == 0
    assert positive_of_tokens([" no", " yes"], [7, 9], "yes") == 1  # a token behind a word
    with pytest.raises(
        InvalidRequest, match=r"the first is the positive one, and 'Yes' looks so: .*--positive Yes"
    ):
        positive_of_tokens(["No", "Yes"], [7, 9], None)


def test_label_words_of_a_head_are_refused_with_its_labels(places: Any) -> None:
    head = places(labels=("irrelevant", "relevant"))
    with pytest.raises(
        InvalidRequest, match="irrelevant, relevant: leave --labels out; --positive says which"
    ):
        answer(head, labels=("relevant",))
    with pytest.raises(InvalidRequest, match="leave the prompt file's labels out"):
        resolve_labels(head, RankerOptions(), ["yes", "no"], None)


def test_a_score_is_a_probability_or_a_logit() -> None:
    with pytest.raises(InvalidRequest, match="--score is 'cosine': use probability or logit"):
        RankerOptions(score="cosine")  # type: ignore[arg-type]


@pytest.mark.parametrize(("pad", "passed_over"), [(9, 9), (None, None), (-1, None)])
def test_the_pad_token_of_a_head_is_passed_over_if_there_is_one(
    places: Any, pad: int | None, passed_over: int | None
) -> None:
    labels, _ = answer(places(labels=("LABEL_0",), pad_token_id=pad))
    assert labels.pad_token == passed_over
    assert answer(places(), label_ids=(7,))[0].pad_token is None
