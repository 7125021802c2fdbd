"""Q/DQ kernels for TensorRT: they compute their layers' maths in standard operators, and store low bits in low bits."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from rankport.exporters.graphs.passes.early_rows import select_rows_early
from rankport.exporters.graphs.passes.low_bit_types import DEQUANTIZE_INT4, store_int4
from rankport.exporters.graphs.trace import cut, trace
from rankport.exporters.graphs.weights import write_graphs
from rankport.exporters.quantization.kernels.select import graph_kernels
from rankport.exporters.quantization.linear import QuantizedEmbedding, QuantizedLinear
from rankport.exporters.quantization.rounding import int8_rows
from rankport.runtime.bundle.manifest import Target
from support.gpu.qdq import IN, OUT, QDQ_LAYERS, qdq_graph, qdq_layer


def session_of(graph: ir.Model, file: Path) -> onnxruntime.InferenceSession:
    ir.save(graph, file)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # as the backend opens them
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", QDQ_LAYERS)
def test_a_qdq_layer_computes_its_maths_in_standard_operators(name: str, tmp_path: Path) -> None:
    layer = qdq_layer(name)
    x = torch.randn(1, 33, IN, generator=torch.Generator().manual_seed(1))
    x[0, 3] = 0  # a token of zeros has no largest value
    graph = qdq_graph(layer)
    assert {node.domain for node in graph.graph} == {""}
    assert list(graph.opset_imports) == [""]
    actual = session_of(graph, tmp_path / "layer.onnx").run(None, {"x": x.numpy()})[0]
    expected = layer(x).numpy()
    assert np.linalg.norm(actual - expected) / np.linalg.norm(expected) <= 1e-5


@pytest.mark.parametrize("name", QDQ_LAYERS)
def test_a_qdq_layer_takes_its_bits_on_disk(name: str, tmp_path: Path) -> None:
    weight = QDQ_LAYERS[name][0]
    write_graphs(tmp_path, {"layer": qdq_graph(qdq_layer(name))}, "weights.bin")
    codes = [
        value.const_value
        for value in ir.load(tmp_path / "layer.onnx").graph.initializers.values()
        if value.const_value is not None and value.const_value.size >= IN * OUT
    ]
    stored = {ir.DataType.INT4: 4, ir.DataType.INT8: 8, ir.DataType.FLOAT8E4M3FN: 8}
    assert [stored[tensor.dtype] for tensor in codes] == [weight.bits]
    filled_up = 1.5 if "unequal" in name else 1
    assert codes[0].nbytes == filled_up * IN * OUT * weight.bits / 8
    # Codes, then at most fp32 scales and one more page for each other tensor.
    others = 4 * 4096 + weight.scales.nbytes + IN * weight.groups * 4
    assert (tmp_path / "weights.bin").stat().st_size <= codes[0].nbytes + others


def test_a_qdq_table_gives_the_rows_of_its_ids(tmp_path: Path) -> None:
    table = QuantizedEmbedding(*int8_rows(torch.randn(50, 32, generator=torch.Generator().manual_seed(5))))
    ids = torch.tensor([3, 49, 0, 3])
    with graph_kernels(table, "tensorrt"):
        graph = trace(table, {"ids": ids}, {"ids": ["tokens"]}, ["rows"])
    operators = [node.op_type for node in graph.graph]
    assert operators == ["DequantizeLinear", "Gather"]
    rows = session_of(graph, tmp_path / "table.onnx").run(None, {"ids": ids.numpy()})[0]
    np.testing.assert_allclose(rows, table(ids).numpy(), rtol=1e-6)


def test_codes_of_an_odd_count_are_packed_and_read_back(tmp_path: Path) -> None:
    codes = np.array([[-8, 7, -1], [0, 3, -5], [1, 2, 4]], np.int8)
    value = ir.val("codes", const_value=ir.tensor(codes, name="codes"))
    scale = ir.val("scale", const_value=ir.tensor(np.float32(2), name="scale"))
    domain, operator = DEQUANTIZE_INT4.split("::")
    node = ir.node(operator, [value, scale], domain=domain)
    node.outputs[0].name, node.outputs[0].dtype, node.outputs[0].shape = (
        "y",
        ir.DataType.FLOAT,
        ir.Shape([3, 3]),
    )
    graph = ir.Graph(
        [], node.outputs, nodes=[node], initializers=[value, scale], opset_imports={"": 21, domain: 1}
    )
    model = ir.Model(graph, ir_version=10)
    assert store_int4(model) == 1
    assert value.const_value is not None
    assert value.const_value.nbytes == 5
    np.testing.assert_array_equal(session_of(model, tmp_path / "g.onnx").run(None, {})[0], codes * 2.0)


class _Selected(torch.nn.Module):
    def __init__(self, layer: QuantizedLinear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.layer(torch.tanh(x))[:, rows])


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("int4 act-order, asymmetric", "tensorrt"),
        ("int4 per channel, asymmetric", "tensorrt"),
        ("int4, int8 per tensor", "tensorrt"),
        ("int4, fp8 per token", "tensorrt"),
        ("int8, int8 per token", "tensorrt"),
        ("fp8, fp8 per tensor", "tensorrt"),
        ("int8, int8 per token", "onnx-cuda"),
        ("fp8, fp8 per token", "onnx-cuda"),
    ],
)
def test_a_selection_of_rows_climbs_over_a_layer_for_a_gpu(name: str, target: Target, tmp_path: Path) -> None:
    module = _Selected(qdq_layer(name))
    x = torch.randn(1, 9, IN, generator=torch.Generator().manual_seed(4))
    rows = torch.tensor([7, 2])
    with graph_kernels(module, target):
        whole = trace(module, {"x": x, "rows": rows}, {"x": [1, "tokens", IN], "rows": ["rows"]}, ["y"])
    graph = cut(whole, {"y": [1, "rows", OUT]})
    assert select_rows_early(graph, "rows") > 1
    (selection,) = graph.graph.inputs[1].consumers()
    assert selection.inputs[0] is graph.graph.node(0).outputs[0], "the first node, before the layer"
    actual = session_of(graph, tmp_path / "g.onnx").run(None, {"x": x.numpy(), "rows": rows.numpy()})[0]
    expected = module(x, rows).numpy()
    assert np.linalg.norm(actual - expected) / np.linalg.norm(expected) <= 1e-5
