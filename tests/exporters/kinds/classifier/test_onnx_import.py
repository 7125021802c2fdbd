"""A classifier that optimum exported to ONNX gives the labels of the checkpoint it was made of."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from rankport.exporters.export import export
from rankport.exporters.kinds.claims import claimed_kind
from rankport.protos.errors import InvalidRequest
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.classifying import Classifier
from rankport.runtime.prompt.tokenizer import Tokenizer
from support.reading.onnx_folders import onnx_folder
from support.reading.pair_encoders import pair_classifier

TEXTS = ["senior nurse", "junior data engineer driver"]


def test_its_bundle_gives_the_probabilities_of_the_checkpoint(tmp_path: Path) -> None:
    checkpoint = pair_classifier(tmp_path / "checkpoint", num_labels=3)
    folder = onnx_folder(checkpoint, tmp_path / "onnx", "text-classification")
    with pytest.raises(
        InvalidRequest, match=r"may be cross-encoder or classifier: .* text-classification of"
    ):
        claimed_kind(folder)
    bundle = export(folder, tmp_path / "bundle", kind="classifier")
    assert bundle.manifest.source.notes[0] == "imported: model.onnx as it was given, its output logits"
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    with torch.no_grad():
        logits = [model(input_ids=framed(tokenizer, text)).logits[0] for text in TEXTS]
    with Classifier.load(bundle, config=EngineConfig(threads=1)) as classifier:
        probabilities = classifier.classify(TEXTS).probabilities
    np.testing.assert_allclose(probabilities, torch.stack(logits).softmax(1).numpy(), atol=1e-5)


def framed(tokenizer: Tokenizer, text: str) -> torch.Tensor:
    """Frames a text as its tokenizer does: [BOS] text [EOS]."""
    return torch.tensor([[1, *tokenizer.encode_batch([text])[0], 2]])
