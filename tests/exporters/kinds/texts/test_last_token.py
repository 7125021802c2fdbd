"""Heads at the last token of decoders that read both ways by their config: exact, alone and beside longer texts."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification

from rankport.exporters.kinds.texts.head_module import LastTokenModule
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.classifying import Classifier
from rankport.runtime.kinds.scorer import Scorer
from support import checkpoints
from support.effort import every_run

PAD = 0
TEXTS = [[7, 8, 9, 10, 11, 12], [13, PAD, 14], [15, 16, PAD, PAD], [17]]  # some have or end in the pad token
LIMITS = {"max_item_tokens": 12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = {"is_causal": False, "num_labels": 2, "num_hidden_layers": 2, "pad_token_id": PAD}
    return checkpoints.classifier(tmp_path_factory.mktemp("both") / "c", "llama", **config)


def under_a_full_mask(folder: Path, texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Copy of the weights in a Llama that reads from left to right, under a mask in which all tokens see all."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, is_causal=True).eval()
    rows = []
    for ids in texts:
        mask = torch.zeros(1, 1, len(ids), len(ids))
        with torch.no_grad():
            states = model.model(torch.tensor([ids]), attention_mask=mask).last_hidden_state[0]
            last = max(place for place, token in enumerate(ids) if token != PAD)
            rows.append(model.score(states[last]).numpy())
    return np.stack(rows)


def test_the_head_is_read_at_the_last_token_that_is_no_padding(folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    longest = max(map(len, TEXTS))
    ids = torch.tensor([[*text, *[3] * (longest - len(text))] for text in TEXTS])
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in TEXTS])
    with torch.no_grad():
        rows = LastTokenModule(model)(ids, mask).numpy()
    np.testing.assert_allclose(rows, under_a_full_mask(folder, TEXTS), atol=1e-5)


@pytest.mark.parametrize("target", every_run(["onnx-cpu", "onnx-cuda"], {"onnx-cpu"}))
def test_a_classifier_answers_as_under_a_full_mask(
    target: str, folder: Path, exported: Callable[..., Bundle]
) -> None:
    bundle = exported(folder, kind="classifier", target=target, **LIMITS)
    assert bundle.manifest.parity is not None
    if target == "onnx-cpu":
        with Classifier.load(bundle) as classifier:
            logits = classifier.classify(TEXTS).logits
        np.testing.assert_allclose(logits, under_a_full_mask(folder, TEXTS), atol=1e-5)


def test_a_cross_encoder_scores_pairs_as_under_a_full_mask(
    folder: Path, exported: Callable[..., Bundle]
) -> None:
    options = {"kind": "cross-encoder", "prompt": "bare", "positive": "LABEL_1", "max_prefix_tokens": 8}
    bundle = exported(folder, **options, **LIMITS)
    prefix = [40, 41, 42]
    with Scorer.load(bundle) as scorer:
        logits = scorer.score(prefix, TEXTS).logits
    expected = under_a_full_mask(folder, [[*prefix, *text] for text in TEXTS])
    np.testing.assert_allclose(logits, expected, atol=1e-5)
