"""Models that read windows both ways (EmbeddingGemma): their masks have rules of their own, and are traced too."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Gemma3TextModel

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from support import checkpoints

WINDOW = 3


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.body(
        tmp_path_factory.mktemp("gemma") / "c",
        "gemma3_text",
        num_hidden_layers=2,
        sliding_window=2 * WINDOW,  # the model reads half of it each way
        layer_types=["sliding_attention", "full_attention"],
        use_bidirectional_attention=True,
    )


@pytest.mark.parametrize("target", ["onnx-cpu", "onnx-cuda"])
def test_texts_longer_than_the_window_are_read_as_by_transformers(
    target: str, gemma: Path, exported: Callable[..., Bundle]
) -> None:
    bundle = exported(gemma, kind="item-encoder", pooling="mean", output_dtype="float32", target=target)
    parity = bundle.manifest.parity
    assert parity is not None
    assert max(mode.max_abs_error for mode in parity.modes) <= 1e-4
    if target == "onnx-cuda":
        return
    model = Gemma3TextModel.from_pretrained(gemma).eval()
    assert model.config.sliding_window < 10
    texts = [list(range(3, 23)), [5, 6, 7], list(range(4, 16))]
    with ItemEncoder.load(bundle.path) as encoder, torch.no_grad():
        for ids, vector in zip(texts, encoder.encode(texts), strict=True):
            states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
            np.testing.assert_allclose(vector[0], states.mean(dim=0).numpy(), atol=5e-6)
