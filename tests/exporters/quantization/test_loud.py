"""Loud columns: found where outliers are, multiplied in full precision, computed in the graph as in torch."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from rankport.exporters.graphs.passes.loud_products import expand_loud_products
from rankport.exporters.graphs.trace import cut, trace
from rankport.exporters.quantization.activation import Activation
from rankport.exporters.quantization.kernels.select import graph_kernels, kernel_of
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.exporters.quantization.loud import LoudColumns, find_loud
from rankport.exporters.quantization.quantize import quantize
from rankport.exporters.quantization.recipes import RECIPES, recipe_of
from rankport.exporters.quantization.rounding import round_to_nearest

IN, OUT = 128, 48
PLACES = torch.tensor([5, 90])
TOKEN = Activation("int8-token")


def loud_layer(out: int = OUT, activation: Activation | None = TOKEN) -> QuantizedLinear:
    weight = torch.randn(out, IN, generator=torch.Generator().manual_seed(out)) * 0.1
    loud = LoudColumns(PLACES, weight[:, PLACES].contiguous())
    rounded = round_to_nearest(weight * loud.quiet(IN), RECIPES["int8"], None)
    return QuantizedLinear(rounded, torch.linspace(-1, 1, out), activation, loud)


def loud_states() -> Tensor:
    x = torch.randn(2, 9, IN, generator=torch.Generator().manual_seed(1))
    x[..., PLACES] *= 40
    x[0, 3] = 0  # a token of zeros has no largest value
    return x


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = loud_layer(), loud_layer(OUT * 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.first(x), self.second(x)


def test_the_graph_computes_the_maths_of_the_layers_and_rounds_shared_states_once(tmp_path: Path) -> None:
    two, x = Two(), loud_states()
    with graph_kernels(two):
        traced = trace(two, {"x": x}, {"x": ["texts", "tokens", IN]}, ["first", "second"])
    graph = cut(traced, {"first": ["texts", "tokens", OUT], "second": ["texts", "tokens", OUT * 2]})
    assert expand_loud_products(graph) == 2
    assert [node.op_type for node in graph.graph].count("QuantizeLinear") == 1
    ir.save(graph, tmp_path / "two.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "two.onnx", providers=["CPUExecutionProvider"])
    for actual, expected in zip(session.run(None, {"x": x.numpy()}), two(x), strict=True):
        assert actual.shape == tuple(expected.shape)
        assert np.linalg.norm(actual - expected.numpy()) / expected.norm() <= 1e-5


def test_a_graph_without_loud_products_stays_as_it_is() -> None:
    assert expand_loud_products(ir.Model(ir.Graph([], [], nodes=[]), ir_version=10)) == 0


@pytest.mark.parametrize("activation", [None, Activation("int16-token")])
def test_other_kernels_multiply_loud_columns_beside_theirs(activation: Activation | None) -> None:
    layer = loud_layer(activation=activation)
    assert type(kernel_of(layer)).__name__ == "BesideLoud"
    assert type(kernel_of(layer, "onnx-cuda")).__name__ == "BesideLoud"


def test_quiet_columns_are_rounded_by_their_own_step() -> None:
    layer, x = loud_layer(), loud_states()
    weight = torch.randn(OUT, IN, generator=torch.Generator().manual_seed(OUT)) * 0.1
    plain = QuantizedLinear(round_to_nearest(weight, RECIPES["int8"], None), layer.bias, TOKEN)
    right = nn.functional.linear(x, weight, layer.bias)
    assert (layer(x) - right).norm() < 0.1 * (plain(x) - right).norm()


def bert_with_an_outlier() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48
    )
    model = BertForSequenceClassification(config).eval()
    with torch.no_grad():
        model.bert.embeddings.LayerNorm.weight[7] = 20.0
    return model


def test_columns_are_found_where_the_states_have_outliers() -> None:
    places = find_loud(bert_with_an_outlier(), 2)
    read = "bert.encoder.layer.0.attention.self"
    assert {f"{read}.query", f"{read}.key", f"{read}.value"} <= places.keys()
    assert all(7 in places[f"{read}.{name}"] for name in ("query", "key", "value"))
    assert "bert.pooler.dense" not in places  # it reads one state a text
    assert "classifier" not in places
    again = find_loud(bert_with_an_outlier(), 2)
    assert all(torch.equal(places[name], again[name]) for name in places)


def test_the_record_names_layers_with_loud_columns() -> None:
    model = bert_with_an_outlier()
    places = find_loud(model, 2)
    facts = quantize(model, recipe_of("int8", "onnx-cpu"), None, loud=places)
    schemes = {scheme.activations: scheme.layers for scheme in facts.schemes if scheme.part == "linear"}
    assert schemes["int8 per token, 2 loud columns in fp32"] == len(places)
    assert sum(schemes.values()) == 7  # the head of two labels is none of them


def test_columns_are_left_out_on_the_cpu_alone() -> None:
    assert recipe_of("int8", "onnx-cpu").loud == 4
    assert {recipe_of("int8", target).loud for target in ("onnx-cuda", "tensorrt")} == {0}
