"""An exported classification head answers as transformers' own forward, also where end-of-text is the pad token."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch

from rankport.exporters.checkpoints.checkpoint import Checkpoint, load_checkpoint
from rankport.exporters.kinds.labels.label_head import readout_of
from rankport.exporters.kinds.ranker.proof.modes import measure
from rankport.exporters.kinds.ranker.proof.reference import RankerReference
from rankport.exporters.kinds.ranker.proof.samples import sample_requests
from rankport.protos.errors import InvalidRequest
from rankport.runtime.backends.choice import load_prefix_backend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import DEFAULTS
from rankport.runtime.kinds.classifying import Classifier
from rankport.runtime.kinds.ranker.ranker import Ranker
from support import checkpoints
from support.sharing.exported import Exports

BOS, END = 1, 2
LABELS = {"id2label": {0: "irrelevant", 1: "relevant"}, "label2id": {"irrelevant": 0, "relevant": 1}}
PREFIX = "senior nurse"
TITLES = ["nurse", "chief cook", "baker", "senior machine operator"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A head of two labels whose pad token ends every text."""
    folder = tmp_path_factory.mktemp("head") / "c"
    fields = {"num_hidden_layers": 1, "pad_token_id": END, "eos_token_id": END}
    return load_checkpoint(checkpoints.classifier(folder, "qwen2", tokenizer=True, **fields, **LABELS))


@pytest.fixture(scope="module")
def bundle(source: Checkpoint, exported: Exports) -> Bundle:
    sizes = {"max_prefix_tokens": 40, "max_item_tokens": 24}
    return exported(source.path, kind="ranker", item_encoder="e" * 64, embedding_tokens=2, **sizes)


@pytest.fixture(scope="module")
def ranker(bundle: Bundle) -> Iterator[Ranker]:
    with Ranker.load(bundle) as loaded:
        yield loaded


def transformers_logits(source: Checkpoint, sequence: list[int]) -> Any:
    model: Any = source.model
    with torch.no_grad():
        return model(input_ids=torch.tensor([sequence])).logits[0].numpy()


def test_texts_are_read_before_the_end_token_as_transformers_reads_them(
    source: Checkpoint, ranker: Ranker
) -> None:
    result = ranker.score(PREFIX, TITLES)
    prefix, items = ranker.encode(PREFIX, TITLES)
    sequences = [[*prefix.ids.tolist(), *item.ids.tolist()] for item in items]
    assert all((sequence[0], sequence[-1]) == (BOS, END) for sequence in sequences)
    expected = np.stack([transformers_logits(source, sequence) for sequence in sequences])
    np.testing.assert_allclose(result.logits, expected, atol=1e-5)
    relevant = torch.tensor(expected).softmax(-1)[:, 1].numpy()
    np.testing.assert_allclose(result.scores, relevant, atol=1e-5)
    assert (result.score_kind, result.read_out) == (
        "probability",
        "softmax over irrelevant, relevant: relevant",
    )


def test_embedding_tokens_are_read_at_the_end_token(source: Checkpoint, ranker: Ranker) -> None:
    rows = np.random.default_rng(0).standard_normal((2, 2, 32)).astype(np.float16)
    model: Any = source.model
    table = model.get_input_embeddings()
    prefix, _ = ranker.encode(PREFIX, [])
    states = [
        torch.cat([table(torch.tensor(prefix.ids)), torch.tensor(row).float(), table(torch.tensor([END]))])
        for row in rows
    ]
    with torch.no_grad():
        expected = model(inputs_embeds=torch.stack(states)).logits.numpy()
    np.testing.assert_allclose(ranker.score(PREFIX, rows).logits, expected, atol=1e-5)


def test_the_manifest_says_what_is_read_and_scored(bundle: Bundle) -> None:
    labels, score = bundle.manifest.labels, bundle.manifest.score
    assert labels is not None
    assert score is not None
    assert (labels.names, labels.positive, labels.pad_token) == (["irrelevant", "relevant"], 1, END)
    assert (score.kind, score.transform) == ("probability", "softmax")


def test_the_proof_sees_a_head_that_is_read_at_another_token(source: Checkpoint, bundle: Bundle) -> None:
    labels = bundle.manifest.labels
    assert labels is not None
    requests = sample_requests(source.vocab_size, 32, bundle.manifest.limits, 1.0, ends=(END,))
    reference = RankerReference(source, readout_of(labels))
    expected = [reference.logits(request.prefix, request.items) for request in requests]
    with closing(load_prefix_backend(bundle, DEFAULTS)) as backend:
        right = measure(backend, expected, [request.as_read(END) for request in requests])
        wrong = measure(backend, expected, requests)
    assert max(mode.max_abs_error for mode in right) < 1e-4
    assert min(mode.max_abs_error for mode in wrong if mode.mode.endswith("/text")) > 0.1
    assert max(mode.max_abs_error for mode in wrong if mode.mode.endswith("/embeddings")) < 1e-4


def test_a_head_of_classes_classifies_behind_a_shared_prefix(bundle: Bundle, ranker: Ranker) -> None:
    scored = ranker.score(PREFIX, TITLES)
    with Classifier.load(bundle) as classifier:
        assert classifier.capabilities == {"scores", "scores_apart", "classifies"}
        result = classifier.classify(TITLES, prefix=PREFIX)
        with pytest.raises(
            InvalidRequest, match="shares one prefix among all texts: give the first text as prefix"
        ):
            classifier.classify([(PREFIX, TITLES[0])])
        alone = classifier.classify(["nurse"])
    np.testing.assert_array_equal(result.logits, scored.logits)
    np.testing.assert_allclose(result.probabilities[:, 1], scored.scores, atol=1e-6)
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1, atol=1e-6)
    assert (result.labels, result.exclusive) == (("irrelevant", "relevant"), True)
    assert alone.probabilities.shape == (1, 2)
