"""A tagger that optimum exported to ONNX labels tokens as the checkpoint it was made of."""

from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForTokenClassification, BertConfig, BertForTokenClassification

from rankport.exporters.export import export
from rankport.exporters.kinds.texts.rows import runs_of
from rankport.runtime.backends.choice import load_text_backend
from rankport.runtime.config import EngineConfig
from support.checkpoints import VOCABULARY, tiny_tokenizer
from support.reading.onnx_folders import onnx_folder

LABELS = {0: "O", 1: "B-job", 2: "I-job"}


def test_its_bundle_gives_the_logits_of_the_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        id2label=LABELS,
    )
    BertForTokenClassification(config).save_pretrained(checkpoint)
    tiny_tokenizer().save(str(checkpoint / "tokenizer.json"))
    folder = onnx_folder(checkpoint, tmp_path / "onnx", "token-classification")
    told: list[str] = []
    bundle = export(folder, tmp_path / "bundle", on_progress=told.append)
    assert told[0].startswith("kind: tagger (optimum: token-classification of transformers; BertForToken")
    assert bundle.manifest.source.notes[0] == "imported: model.onnx as it was given, its output logits"
    runs = [np.array([5, 9, 17, 8]), np.array([6, 7])]
    model = AutoModelForTokenClassification.from_pretrained(checkpoint).eval()
    with closing(load_text_backend(bundle, "tag", EngineConfig(threads=1))) as backend:
        rows = backend.compute(runs_of(runs))
    with torch.no_grad():
        expected = [model(input_ids=torch.tensor(run)[None]).logits[0].numpy() for run in runs]
    np.testing.assert_allclose(rows, np.concatenate(expected), atol=1e-5)  # a row a token
