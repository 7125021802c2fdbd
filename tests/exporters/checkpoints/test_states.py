"""Widths of what a body answers are those of a run, not of its config."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import EmbeddingGemma2TextModel

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.states import first_state_sees_all, states_width
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.item_encoder.output import output_form
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from support import checkpoints
from support.effort import full_effort

_TEXT = list(range(3, 23))


@pytest.fixture
def projecting(tmp_path: Path) -> Path:
    return checkpoints.body(
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


def test_states_that_a_model_projects_are_as_wide_as_the_projection(projecting: Path) -> None:
    source = load_checkpoint(projecting, head="none")
    assert source.hidden_size == 32
    assert states_width(source.model, source.hidden_size) == 40
    assert output_form(source, ItemEncoderOptions(pooling="mean")).hidden_size == 40


@full_effort
def test_an_item_encoder_gives_what_the_model_projects(
    projecting: Path, exported: Callable[..., Bundle]
) -> None:
    bundle = exported(projecting, kind="item-encoder", pooling="mean", output_dtype="float32")
    assert bundle.manifest.shape.hidden_size == 40
    model = EmbeddingGemma2TextModel.from_pretrained(projecting).eval()
    with ItemEncoder.load(bundle.path) as encoder, torch.no_grad():
        states = model(input_ids=torch.tensor([_TEXT])).last_hidden_state[0]
        np.testing.assert_allclose(encoder.encode([_TEXT])[0, 0], states.mean(dim=0).numpy(), atol=5e-6)


class Boxes(nn.Module):
    """Reads boxes."""

    def forward(self, input_ids: Tensor, bbox: Tensor) -> Tensor:
        return bbox


def test_a_body_that_does_not_run_on_a_token_alone_has_the_width_of_its_config() -> None:
    assert states_width(Boxes(), 7) == 7
    assert first_state_sees_all(Boxes())


def test_a_body_whose_first_rows_are_of_no_token_is_asked_by_others(tmp_path: Path) -> None:
    model = load_checkpoint(checkpoints.body(tmp_path, "bert"), head="none").model
    with torch.no_grad():
        model.get_input_embeddings().weight[:6] = 0.0  # type: ignore[operator]
    assert first_state_sees_all(model)
