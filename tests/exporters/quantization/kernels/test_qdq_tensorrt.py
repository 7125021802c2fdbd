"""TensorRT takes the Q/DQ form: every layer parses and builds, and its weights are in low bits in the plan too.

Built with TensorRT-RTX for SM89, which needs no GPU; nothing is run.
"""

from pathlib import Path

import pytest
import torch
from torch import nn

from rankport.exporters.graphs.passes.half_precision import to_half_precision
from rankport.exporters.graphs.trace import trace
from rankport.exporters.graphs.weights import write_graphs
from rankport.exporters.quantization.kernels.select import graph_kernels
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.exporters.quantization.recipes import RECIPES, recipe_of
from rankport.exporters.quantization.rounding import round_to_nearest
from rankport.exporters.quantization.tables import rounded_table
from rankport.runtime.bundle.manifest import Precision
from support.effort import every_run
from support.gpu.qdq import IN, QDQ_LAYERS, qdq_graph, qdq_layer
from support.gpu.tensorrt_rtx import ParsedGraph

EVERY_RUN = {
    "int4 in groups of 8",
    "int4 act-order, asymmetric",
    "int4 unequal groups, asymmetric",
    "int4, int8 per block",
    "int4, fp8 per token",
    "int8 weights alone",
    "int8 in groups, asymmetric",
    "int8, int8 per token",
    "int8 asymmetric, int8 per token",
    "fp8 weights alone",
    "fp8, fp8 per token",
    "fp8 of one scale, fp8 per tensor",
}
"""Each way of a kernel; the others are joined of the same operators, and run on a CPU in every run."""


@pytest.mark.parametrize("name", every_run(QDQ_LAYERS, EVERY_RUN))
def test_a_layer_of_every_scheme_parses_and_builds(name: str, tmp_path: Path) -> None:
    write_graphs(tmp_path, {"layer": qdq_graph(qdq_layer(name))}, "weights.bin")
    parsed = ParsedGraph(tmp_path / "layer.onnx")
    assert parsed.build({"x": ((1, 1, IN), (1, 16, IN), (1, 64, IN))}) > 0


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("int8, int8 per token", "fp16"),
        ("int8, int8 per tensor", "bf16"),
        ("int8 in groups, asymmetric", "fp16"),
        ("int4, fp8 per tensor", "fp16"),
        ("int4 act-order, asymmetric", "bf16"),
        ("fp8, fp8 per token", "bf16"),
        ("fp8, fp8 per tensor", "fp16"),
    ],
)
def test_a_layer_beside_half_precision_parses_and_builds(
    name: str, precision: Precision, tmp_path: Path
) -> None:
    graph = qdq_graph(qdq_layer(name))
    to_half_precision(graph, precision, fused=False)
    write_graphs(tmp_path, {"layer": graph}, "weights.bin")
    parsed = ParsedGraph(tmp_path / "layer.onnx")
    assert parsed.build({"x": ((1, 1, IN), (1, 16, IN), (1, 64, IN))}) > 0


LARGE = 1024
RANGE = {"x": ((1, 1, LARGE), (1, 16, LARGE), (1, 64, LARGE))}


@pytest.mark.parametrize("precision", every_run(["fp32", "fp16"], {"fp16"}))
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_plan_keeps_the_weights_in_low_bits(recipe: str, precision: Precision, tmp_path: Path) -> None:
    weight = torch.randn(LARGE, LARGE, generator=torch.Generator().manual_seed(6)) * 0.02
    chosen = recipe_of(recipe, "tensorrt")
    group = chosen.group_of(nn.Linear(LARGE, 1, device="meta"))
    layer = QuantizedLinear(round_to_nearest(weight, chosen, group), None, chosen.activation(group))
    with graph_kernels(layer, "tensorrt"):
        graph = trace(layer, {"x": torch.zeros(1, 5, LARGE)}, {"x": [1, "tokens", LARGE]}, ["y"])
    if precision != "fp32":
        to_half_precision(graph, precision, fused=False)
    write_graphs(tmp_path, {"layer": graph}, "weights.bin")
    low_bit = LARGE * LARGE * chosen.bits // 8
    # Scales and kernels come on top; fp32 would be eight or four times the codes.
    assert low_bit < ParsedGraph(tmp_path / "layer.onnx").build(RANGE) < low_bit + 600_000


@pytest.mark.parametrize("loud", [1.0, 100.0])
def test_a_plan_keeps_a_table_in_low_bits(tmp_path: Path, loud: float) -> None:
    values = torch.randn(4096, 256, generator=torch.Generator().manual_seed(7))
    values[:, 9] *= loud
    table = rounded_table(nn.Embedding.from_pretrained(values))
    assert table.has_loud == (loud > 1)
    with graph_kernels(table, "tensorrt"):
        graph = trace(table, {"ids": torch.arange(5)}, {"ids": ["tokens"]}, ["rows"])
    write_graphs(tmp_path, {"table": graph}, "weights.bin")
    nbytes = ParsedGraph(tmp_path / "table.onnx").build({"ids": ((1,), (16,), (64,))})
    assert 4096 * 256 < nbytes < 1.5 * 4096 * 256
