"""Rotary frequencies of several grids of positions: of a text one grid's, in the order of the model's own code."""

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig
from transformers.models.glm4v.modeling_glm4v import Glm4vTextRotaryEmbedding
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLRotaryEmbedding
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5TextRotaryEmbedding
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding

from rankport.exporters.kinds.decoders.grids import one_grid

SIZES = {"hidden_size": 96, "num_attention_heads": 3, "num_key_value_heads": 1, "num_hidden_layers": 1}
ROTATIONS = {
    "qwen3_5_text": (Qwen3_5TextRotaryEmbedding, 1.0),
    "qwen3_vl_text": (Qwen3VLTextRotaryEmbedding, 1.0),
    "qwen2_vl_text": (Qwen2VLRotaryEmbedding, 1.0),
    "glm4v_text": (Glm4vTextRotaryEmbedding, 0.5),  # of half of each head
}


@pytest.mark.parametrize("family", ROTATIONS)
def test_a_text_has_the_rotations_that_the_model_gives_it(family: str) -> None:
    made, share = ROTATIONS[family]
    sections = {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": share}
    sections["mrope_section"] = [6, 5, 5] if share == 1 else [4, 2, 2]
    config = AutoConfig.for_model(family, head_dim=32, rope_parameters=sections, **SIZES)
    rotary, states = made(config), torch.zeros(1, 5, 96)
    positions = torch.tensor([[3, 0, 7, 8, 1]]).expand(3, 1, -1)
    expected = rotary(states, positions)
    own = rotary.recomposition_frequencies
    with one_grid(rotary):
        assert rotary.recomposition_frequencies is not own
        with torch.no_grad():
            graph = torch.export.export(rotary, (states, positions)).graph
        assert not [node for node in graph.nodes if "copy_" in str(node.target)]
        for given, right in zip(rotary(states, positions), expected, strict=True):
            torch.testing.assert_close(given, right, rtol=0, atol=0)
    assert rotary.recomposition_frequencies == own


class Summed(nn.Module):
    """Gives no frequencies of a grid, but sums of them."""

    def __init__(self) -> None:
        super().__init__()
        self.inv_freq = torch.ones(4)

    def recomposition_frequencies(self, freq: Tensor) -> Tensor:
        return freq.sum(0)


class Nearer(Summed):
    """Gives frequencies that were rounded."""

    def recomposition_frequencies(self, freq: Tensor) -> Tensor:
        return freq[0].round()


@pytest.mark.parametrize("made", [Summed, Nearer, nn.Identity])
def test_what_is_no_order_of_frequencies_is_left_alone(made: type[nn.Module]) -> None:
    module = made()
    before = dict(vars(module))
    with one_grid(module):
        assert vars(module) == before
