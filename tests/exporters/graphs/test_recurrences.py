"""Functions that stand for those by which transformers' models mix tokens without attention."""

from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
import torch
from torch import nn
from transformers.models.granitemoehybrid import modeling_granitemoehybrid
from transformers.models.qwen3_5 import modeling_qwen3_5

from rankport.exporters.export import export
from rankport.exporters.graphs.recurrences import BY_OPERATOR, Mixing, mixing_by
from support import checkpoints

_TOKENS = 21


def test_the_gated_delta_rule_is_transformers_own() -> None:
    torch.manual_seed(3)
    query, key = torch.randn(2, 2, _TOKENS, 3, 8).unbind(0)
    value = torch.randn(2, _TOKENS, 6, 5)
    decay, beta = -torch.rand(2, _TOKENS, 6), torch.rand(2, _TOKENS, 6)
    options = {"g": decay, "beta": beta, "use_qk_l2norm_in_kernel": True}
    expected, _ = modeling_qwen3_5.torch_chunk_gated_delta_rule(query, key, value, **options)
    mixed, _ = BY_OPERATOR["onnx-cpu"].gated_delta(query, key, value, **options)
    torch.testing.assert_close(mixed, expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("limit", [(0.0, float("inf")), (0.3, 0.7)])
def test_the_scan_of_mamba_2_is_transformers_own(limit: tuple[float, float]) -> None:
    torch.manual_seed(4)
    states = torch.randn(2, _TOKENS, 6, 5)
    steps = torch.randn(2, _TOKENS, 6)
    groups = torch.randn(2, 2, _TOKENS, 3, 8)
    options = {"D": torch.randn(6), "dt_bias": torch.randn(6), "dt_softplus": True, "dt_limit": limit}
    arguments = (states, steps, -torch.rand(6) - 0.1, *groups, 4)
    expected = modeling_granitemoehybrid.mamba2_chunk_scan(*arguments, **options)
    torch.testing.assert_close(
        BY_OPERATOR["onnx-cpu"].mamba2(*arguments, **options), expected, atol=1e-5, rtol=1e-5
    )


def test_the_config_of_a_model_that_sees_too_has_no_cache_to_leave_out() -> None:
    """Stands for LFM2-VL and MiniCPM-V: only the config of the text part says whether a cache is kept."""
    layer = nn.Module()
    layer.config = SimpleNamespace(use_cache=True)  # type: ignore[assignment]
    model = nn.Module()
    model.__class__ = type("Sees", (nn.Module,), {"__module__": modeling_qwen3_5.__name__})
    model.config, model.text = SimpleNamespace(), layer  # type: ignore[assignment]
    with mixing_by(model, BY_OPERATOR["onnx-cpu"]):
        assert modeling_qwen3_5.torch_chunk_gated_delta_rule.func == Mixing.gated_delta
        assert not layer.config.use_cache  # type: ignore[union-attr]
    assert layer.config.use_cache  # type: ignore[union-attr]


def test_an_item_encoder_with_recurrent_layers_is_one_operator_a_layer(tmp_path: Path) -> None:
    checkpoint = checkpoints.body(
        tmp_path / "checkpoint",
        "qwen3_5_text",
        layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=6,
        head_dim=8,
    )
    bundle = export(
        checkpoint,
        tmp_path / "bundle",
        kind="item-encoder",
        pooling="last-k",
        max_item_tokens=24,
        target="onnx-cpu,onnx-cuda",
    )
    for target, attention in (("onnx-cpu", 0), ("onnx-cuda", 1)):
        view = bundle.for_target(target)
        graph = onnx.load(view.path / view.graph("encode").file, load_external_data=False).graph
        operators = [node.op_type for node in graph.node]
        assert operators.count("LinearAttention") == 1
        assert operators.count("MultiHeadAttention") == attention
        assert len(operators) < 400, "no step a token"
        assert view.manifest.parity is not None
        assert max(mode.max_abs_error for mode in view.manifest.parity.modes) <= 1e-4
