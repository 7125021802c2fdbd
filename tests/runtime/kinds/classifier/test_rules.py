"""Manifests of classifiers that contradict themselves are refused by their field."""

from typing import Any

import pytest

from rankport.protos.errors import BundleError
from rankport.runtime.bundle.fingerprint import with_own_fingerprint
from rankport.runtime.bundle.manifest import (
    ClassHead,
    DenseLayer,
    GraphSpec,
    Labels,
    Limits,
    Manifest,
    Pair,
    Prompt,
    Score,
    Segment,
    TensorSpec,
)
from rankport.runtime.bundle.manifest_rules import check_manifest
from rankport.runtime.kinds.classifier.rules import RULES
from support.bundle_samples import ENCODER_FILES, encoder_draft, manifest_of

GRAPH = GraphSpec(
    role="classify",
    file="encode.onnx",
    opset=18,
    inputs=[],
    outputs=[TensorSpec(name="logits", dtype="float32", shape=["items", 3])],
)
POOLED = ClassHead(
    exclusive=True, pooling="mean", dense=[DenseLayer(in_features=8, out_features=3, activation="identity")]
)
LABELS = Labels(source="classification_head", names=["low", "medium", "high"], ids=[0, 1, 2])


def classifier(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "kind": "classifier",
        "graphs": [GRAPH],
        "labels": LABELS,
        "head": POOLED,
        "embedding": None,
        "score": None,
    }
    draft = encoder_draft().model_copy(update=values)
    width = POOLED.dense[0].model_copy(update={"in_features": draft.shape.hidden_size})
    head = POOLED.model_copy(update={"dense": [width]})
    draft = draft.model_copy(update={"head": head, **changes})
    return with_own_fingerprint(manifest_of(draft, ENCODER_FILES))


def test_one_of_its_own_head_and_one_of_pooled_states_are_right() -> None:
    check_manifest(classifier(), RULES)
    check_manifest(classifier(head=ClassHead(exclusive=False)), RULES)


TWO = Labels(source="classification_head", names=["low", "high"], ids=[0, 1])
ONE = Labels(source="classification_head", names=["low"], ids=[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "labels: kind classifier answers by a classification head"),
        ({"labels": TWO}, "labels: 2 names, and head ends in 3 outputs: must be one name an output"),
        (
            {"labels": TWO, "head": ClassHead(exclusive=True)},
            r"labels: 2 names, and graphs\[0\] .* with 3 logits",
        ),
        (
            {"labels": ONE, "head": ClassHead(exclusive=True)},
            "head.exclusive: is true, and there is one label",
        ),
        ({"labels": LABELS.model_copy(update={"ids": [2, 1, 0]})}, r"labels.ids: are \[2, 1, 0\]"),
        ({"score": Score(kind="probability", transform="softmax")}, "score: kind classifier answers with"),
        ({"head": None}, "head: kind classifier must say whether its labels exclude each other"),
        ({"head": POOLED.model_copy(update={"pooling": None})}, "head.pooling: missing"),
        ({"head": POOLED}, r"head.dense\[0\].in_features: is 8, what comes in has"),
        (
            {"prompt": Prompt(prefix=[Segment(field="query")], item=[Segment(item=True)])},
            "prompt.prefix: kind classifier of single texts",
        ),
        ({"pair": Pair(max_tokens=9)}, "prompt.prefix: kind classifier has one first text"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        check_manifest(classifier(**changes), RULES)


def test_a_pair_has_one_limit() -> None:
    prompt = Prompt(prefix=[Segment(field="query")], item=[Segment(item=True)])
    limits = Limits(max_prefix_tokens=9, max_item_tokens=9)
    check_manifest(classifier(prompt=prompt, pair=Pair(max_tokens=9), limits=limits), RULES)
    with pytest.raises(BundleError, match="limits: are 9 and 9: kind classifier cuts both texts together"):
        check_manifest(classifier(prompt=prompt, pair=Pair(max_tokens=8), limits=limits), RULES)
