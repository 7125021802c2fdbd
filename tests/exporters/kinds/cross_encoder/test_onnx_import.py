"""A cross-encoder that optimum exported to ONNX scores pairs as the checkpoint it was made of."""

from pathlib import Path

import numpy as np

from rankport.exporters.export import export
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.scorer import Scorer
from support.reading.onnx_folders import onnx_folder
from support.reading.pair_encoders import cross_encoder_folder

PAIRS = ("senior software engineer", ["junior software engineer", "cook", "the chief machine operator"])


def test_its_bundle_gives_the_scores_of_the_checkpoint(tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    checkpoint = cross_encoder_folder(tmp_path / "ce")
    folder = onnx_folder(checkpoint, tmp_path / "onnx", "text-classification")
    bundle = export(folder, tmp_path / "bundle", kind="cross-encoder")
    assert bundle.manifest.source.notes[0] == "imported: model.onnx as it was given, its output logits"
    assert [tensor.name for tensor in bundle.manifest.graphs[0].inputs] == [
        "input_ids",
        "attention_mask",
        "token_type_ids",
    ]
    library = CrossEncoder(str(checkpoint), device="cpu", local_files_only=True)
    query, items = PAIRS
    with Scorer.load(bundle, config=EngineConfig(threads=1)) as scorer:
        scores = scorer.score(query, items).scores
    np.testing.assert_allclose(scores, library.predict([(query, item) for item in items]), atol=1e-5)
