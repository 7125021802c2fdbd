"""The module of transformers that an error came out of is the innermost."""

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from rankport.exporters.graphs.raised_in import raising_module


def test_the_innermost_module_is_named() -> None:
    config = LlamaConfig(
        vocab_size=7, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    model = LlamaModel(config)
    model.layers[0].mlp.up_proj = torch.nn.Linear(9, 8)  # type: ignore[union-attr]
    with pytest.raises(RuntimeError) as caught:
        model(torch.tensor([[1, 2]]))
    assert raising_module(caught.value) is model.layers[0].mlp  # type: ignore[union-attr]
    assert raising_module(ValueError("by nobody")) is None
