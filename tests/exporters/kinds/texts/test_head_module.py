"""Heads of encoder-decoders: a padded batch against transformers' own forward of each text alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.texts.head_module import head_module
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.classifying import Classifier
from rankport.runtime.kinds.scorer import Scorer
from support.reading.pair_encoders import pair_classifier
from support.reading.seq2seq import t5

SIDE = {"layers": 1, "ffn_dim": 48, "attention_heads": 4}
NAMES = {"id2label": {0: "low", 1: "high"}, "label2id": {"low": 0, "high": 1}}


@pytest.mark.parametrize("family", ["T5", "MT5", "UMT5"])
def test_a_t5_reads_the_end_of_its_decoder_whatever_the_padding(family: str, tmp_path: Path) -> None:
    source = load_checkpoint(t5(tmp_path / "c", f"{family}ForSequenceClassification", **NAMES))
    end = source.model.config.eos_token_id
    lengths = [9, 4, 6]
    ids = torch.randint(2, 99, (3, 9))
    mask = torch.tensor([[1] * length + [0] * (9 - length) for length in lengths])
    for row, length in zip(ids, lengths, strict=True):
        row[length - 1] = row[1] = end  # of both texts
    with torch.no_grad():
        rows = head_module(source.model)(ids, mask)
        for row, text, length in zip(rows, ids, lengths, strict=True):
            own = source.model(input_ids=text[None, :length]).logits[0]
            torch.testing.assert_close(row, own, atol=2e-5, rtol=0)


def test_a_bart_scores_and_classifies_pairs_as_transformers_does(
    tmp_path: Path, exported: Callable[..., Bundle]
) -> None:
    sizes = {"decoder_layers": 1, "decoder_ffn_dim": 48, "decoder_attention_heads": 4, "init_std": 0.3}
    folder = pair_classifier(tmp_path / "c", "bart", "roberta", encoder_ffn_dim=48, **sizes, **NAMES)
    bundle = exported(folder, kind="cross-encoder", positive="high")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    pairs = [("senior nurse", "cook"), ("pilot", "the chief machine operator of sales")]
    with torch.no_grad():
        own = torch.cat([model(**tokenizer(*pair, return_tensors="pt")).logits for pair in pairs])
    with Classifier.load(bundle) as classifier:
        result = classifier.classify(pairs)
        np.testing.assert_allclose(result.logits, own.numpy(), atol=1e-5)
        np.testing.assert_allclose(result.probabilities, own.softmax(1).numpy(), atol=1e-5)
        assert result.labels == ("low", "high")
        shared = classifier.classify(["cook"], prefix="senior nurse")
        np.testing.assert_allclose(shared.logits, result.logits[:1], atol=1e-6)
        assert classifier.classify([]).probabilities.shape == (0, 2)
        with pytest.raises(InvalidRequest, match="cross-encoder 'shared' reads two together: give pairs"):
            classifier.classify(["cook"])
        with pytest.raises(InvalidRequest, match="the pairs have first texts of their own"):
            classifier.classify(pairs, prefix="nurse")
    with Scorer.load(bundle) as scorer:
        scores = scorer.score("senior nurse", ["cook"]).scores
        np.testing.assert_allclose(scores, own[:1].softmax(1)[:, 1].numpy(), atol=1e-5)


@pytest.mark.parametrize("family", ["mbart", "plbart"])
def test_a_decoder_that_begins_with_the_texts_last_token_is_given_it(family: str, tmp_path: Path) -> None:
    sides = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in SIDE.items()}
    folder = pair_classifier(tmp_path / "c", family, d_model=32, init_std=0.3, num_labels=2, **sides)
    model = load_checkpoint(folder).model
    model.config.decoder_start_token_id = 7  # type: ignore[union-attr]  # which nothing reads
    ids, end = torch.randint(3, 99, (2, 7)), 2
    ids[0, -1] = ids[1, 3] = end
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    with torch.no_grad():
        rows = head_module(model)(ids, mask)
        for row, text, length in zip(rows, ids, (7, 4), strict=True):
            torch.testing.assert_close(row, model(input_ids=text[None, :length]).logits[0], atol=2e-5, rtol=0)


def test_a_decoder_that_nothing_says_how_to_begin_is_refused(tmp_path: Path) -> None:
    model = load_checkpoint(t5(tmp_path / "c", "T5ForSequenceClassification", **NAMES)).model
    model.config.decoder_start_token_id = None  # type: ignore[union-attr]
    with pytest.raises(
        CheckpointError, match=r"decoder_start_token_id is None: T5ForSequence.* begins with it"
    ):
        head_module(model)


def test_a_decoder_that_finds_a_texts_end_by_its_padding_is_given_its_own(tmp_path: Path) -> None:
    folder = pair_classifier(tmp_path / "c", "modernbert-decoder", num_labels=2, pad_token_id=98)
    model = load_checkpoint(folder).model
    ids = torch.tensor([[5, 6, 7, 8, 9, 10, 11], [9, 8, 7, 6, 0, 0, 0]])
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    with torch.no_grad():
        rows = head_module(model)(ids, mask)
        for row, text, length in zip(rows, ids, (7, 4), strict=True):
            own = model(input_ids=text[None, :length]).logits[0]
            torch.testing.assert_close(row, own, atol=2e-5, rtol=0)
