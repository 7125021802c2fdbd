"""Widths of what a body answers are those of a run, not of its config."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EmbeddingGemma2TextModel

from rankport.exporters.checkpoints.states import states_width
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from support import checkpoints

_TEXT = list(range(3, 23))


def test_states_that_a_model_projects_are_as_wide_as_the_projection(
    tmp_path: Path, exported: Callable[..., Bundle]
) -> None:
    folder = checkpoints.body(
        tmp_path / "c",
        "embedding_gemma2_text",
        head_dim=8,
        global_head_dim=16,
        num_global_key_value_heads=1,
        hidden_size_per_layer_input=8,
        embedding_dim=40,
        num_hidden_layers=1,
        sliding_window=3,
    )
    bundle = exported(folder, kind="item-encoder", pooling="mean", output_dtype="float32")
    assert bundle.manifest.shape.hidden_size == 40
    model = EmbeddingGemma2TextModel.from_pretrained(folder).eval()
    with ItemEncoder.load(bundle.path) as encoder, torch.no_grad():
        states = model(input_ids=torch.tensor([_TEXT])).last_hidden_state[0]
        np.testing.assert_allclose(encoder.encode([_TEXT])[0, 0], states.mean(dim=0).numpy(), atol=5e-6)


class Boxes(nn.Module):
    """Reads boxes."""

    def forward(self, input_ids: Tensor, bbox: Tensor) -> Tensor:
        return bbox


def test_a_body_that_does_not_run_on_a_token_alone_has_the_width_of_its_config() -> None:
    assert states_width(Boxes(), 7) == 7
