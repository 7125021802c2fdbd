"""Routers of experts stay in full precision, whatever a family calls them, and mixtures with them still run.

So does a layer of a class that computes something else than the product with its matrix.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4GroupedLinear

from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.exporters.quantization.quantize import quantize
from rankport.exporters.quantization.recipes import RECIPES, Choices

EXPERTS = 32
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 128,
    "num_experts_per_tok": 2,
}
FAMILIES: dict[str, tuple[dict[str, Any], str]] = {
    "afmoe": (
        {"num_experts": EXPERTS, "num_dense_layers": 0, "layer_types": ["full_attention"]},
        "mlp.router.gate",
    ),
    "hunyuan_v1_moe": ({"num_experts": EXPERTS, "moe_topk": 2}, "mlp.gate.wg"),
    "phimoe": ({"num_local_experts": EXPERTS}, "mlp.router"),
    "jetmoe": ({"num_local_experts": EXPERTS, "kv_channels": 16}, "mlp.router.layer"),
    "llama4_text": (  # asks the table of embeddings for its device
        {"num_local_experts": EXPERTS, "num_experts_per_tok": 1, "intermediate_size_mlp": 96},
        "feed_forward.router",
    ),
    "doge": ({"is_moe": True, "num_experts": 64}, "mlp.router_gate"),
}


def mixture(family: str) -> nn.Module:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **(SIZES | FAMILIES[family][0]))
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_router_stays_as_it_is_and_is_named(family: str) -> None:
    model, name = mixture(family), f"model.layers.0.{FAMILIES[family][1]}"
    before = model.get_submodule(name).weight.detach().clone()
    facts = quantize(model, RECIPES["int8"], None)
    router = model.get_submodule(name)
    assert isinstance(router, nn.Linear)
    assert router.out_features >= 16
    torch.testing.assert_close(router.weight, before, rtol=0, atol=0)
    assert name in facts.kept
    assert any(isinstance(layer, QuantizedLinear) for layer in model.modules())
    assert torch.isfinite(model(input_ids=torch.arange(8)[None]).logits).all()


def test_gates_within_an_mlp_are_quantized() -> None:
    model = mixture("afmoe")
    quantize(model, RECIPES["int8"], None)
    assert isinstance(model.get_submodule("model.layers.0.mlp.shared_experts.gate_proj"), QuantizedLinear)


def test_a_proof_repeats_what_its_bundle_says() -> None:
    model = mixture("afmoe")
    quantize(model, replace(RECIPES["int8"], repeats=Choices(frozenset(), loud_table=False)), None)
    assert isinstance(model.get_submodule("model.layers.0.mlp.router.gate"), QuantizedLinear)


def test_a_layer_that_multiplies_by_groups_stays() -> None:
    model = mixture("afmoe")
    grouped = DeepseekV4GroupedLinear(64, 64, n_groups=4)
    model.model.layers[0].mlp.grouped = grouped
    facts = quantize(model, RECIPES["int8"], None)
    assert model.model.layers[0].mlp.grouped is grouped
    assert "model.layers.0.mlp.grouped" in facts.kept


def test_falcons_layers_are_products_and_quantized() -> None:
    config = AutoConfig.for_model(
        "falcon", hidden_size=64, num_hidden_layers=1, num_attention_heads=4, vocab_size=128
    )
    model = AutoModelForCausalLM.from_config(config)
    quantize(model, RECIPES["int8"], None)
    attention = model.transformer.h[0].self_attention
    assert isinstance(attention.query_key_value, QuantizedLinear)
