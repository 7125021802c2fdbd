"""Sources run the plain way: with the mask of ones that a tokenizer gives, for some models guess one of their own."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.export import export
from rankport.exporters.kinds.tagger.proof.logits import source_logits
from rankport.exporters.kinds.texts.encoder_reference import EncoderReference, whole_text
from rankport.exporters.kinds.texts.pairs.reference import PairIds, PairReference
from rankport.runtime.bundle.manifest import Embedding
from support import checkpoints
from support.reading.taggers import tagger_checkpoint

RUN = np.array([5, 2, 7, 2, 9])
SIZES = {"pad_index": 2, "pad_token_id": 2}  # a padding token stands within the text


@pytest.mark.parametrize("model_type", ["flaubert", "xlm"])
def test_a_padding_token_within_a_text_is_a_token(model_type: str, tmp_path: Path) -> None:
    ids = torch.tensor(RUN)[None]
    body = load_checkpoint(checkpoints.body(tmp_path / "b", model_type, **SIZES), head="none").model
    form = Embedding(tokens=1, hidden_size=32, dtype="float32", pooling="mean", normalize=False)
    with torch.no_grad():
        masked = body(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        guessed = body(input_ids=ids).last_hidden_state[0]
    row = EncoderReference(body, form, ()).embedding(RUN)[0]
    np.testing.assert_allclose(row, masked.mean(dim=0).numpy(), atol=1e-6)
    assert np.abs(row - guessed.mean(dim=0).numpy()).max() > 1e-2
    pairs = load_checkpoint(checkpoints.classifier(tmp_path / "p", model_type, **SIZES)).model
    with torch.no_grad():
        logits = pairs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.numpy()
    np.testing.assert_allclose(PairReference(pairs).logits([PairIds(RUN, None)]), logits, atol=1e-6)
    tokens = load_checkpoint(tagger_checkpoint(tmp_path / "t", model_type=model_type, **SIZES)).model
    with torch.no_grad():
        labels = tokens(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].numpy()
    np.testing.assert_allclose(source_logits(tokens, [RUN])[0], labels, atol=1e-6)


def test_a_table_that_gives_rows_with_a_scale_is_proven_in_half_precision(tmp_path: Path) -> None:
    folder = checkpoints.body(tmp_path / "c", "ibert", num_hidden_layers=1)
    options = {"pooling": "mean", "max_item_tokens": 16, "target": "onnx-cuda", "precision": "fp16"}
    parity = export(folder, tmp_path / "b", kind="item-encoder", **options).manifest.parity
    assert parity is not None
    assert all(map(parity.holds, parity.modes))


def test_a_model_that_takes_no_mask_is_given_none() -> None:
    class Model(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return input_ids

    assert list(whole_text(Model(), RUN)) == ["input_ids"]
