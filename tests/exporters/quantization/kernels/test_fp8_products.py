"""Products of fp8 by fp8 for CUDA: the operator as written, and its twin on a CPU, against the maths in numpy."""

from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from rankport.exporters.graphs.passes.fp8_products import (
    emulate_fp8_products,
    expand_fp8_products,
    multiplies_fp8,
)
from rankport.exporters.graphs.passes.half_precision import emulate, to_half_precision
from rankport.exporters.quantization.activation import FP8_MAX, Activation
from rankport.exporters.quantization.kernels.select import choose_fp8_products, kernel_of
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Precision
from support.gpu.cuda_kernels import without_kernel
from support.gpu.qdq import FP8_TOKEN, IN, OUT, fp8_tensor_weight, fp8_weight, layer_graph, qdq_layer

Numbers = NDArray[np.float64]
E4M3 = np.dtype(ml_dtypes.float8_e4m3fn)
HALF = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
LAYERS = {
    "scale of a token": QuantizedLinear(fp8_weight(), None, FP8_TOKEN),
    "fixed scale": QuantizedLinear(fp8_weight(), None, Activation("fp8-tensor", scale=0.01)),
    "fixed scale that clips": QuantizedLinear(fp8_weight(), None, Activation("fp8-tensor", scale=0.001)),
    "one scale a matrix": QuantizedLinear(fp8_tensor_weight(), None, FP8_TOKEN),
}


def _states(precision: Precision) -> torch.Tensor:
    """States as the precision has them, one token of zeros and one far above the others among them."""
    x = torch.randn(1, 33, IN, generator=torch.Generator().manual_seed(1))
    x[0, 3], x[0, 5] = 0, 1000 * x[0, 5]
    return torch.from_numpy(x.numpy().astype(HALF[precision]).astype(np.float32))


def _graph(layer: nn.Module, precision: Precision) -> ir.Model:
    choose_fp8_products(layer)
    graph = layer_graph(layer, "onnx-cuda")
    if precision != "fp32":
        to_half_precision(graph, precision, fused=True)
    assert expand_fp8_products(graph) == 1
    return graph


def _run_twin(graph: ir.Model, precision: Precision, x: torch.Tensor, folder: Path) -> Numbers:
    """The twin as a proof makes it: of the graph as it lies in a file."""
    ir.save(graph, folder / "graph.onnx")
    twin = ir.load(folder / "graph.onnx")
    emulate_fp8_products(twin)
    if precision != "fp32":
        emulate(twin, precision)
    ir.save(twin, folder / "twin.onnx")
    session = onnxruntime.InferenceSession(folder / "twin.onnx", providers=["CPUExecutionProvider"])
    result: Numbers = session.run(None, {"x": x.numpy()})[0].astype(np.float64)
    return result[0]


def _expected(layer: QuantizedLinear, x: NDArray[np.float32]) -> Numbers:
    """y[t, o] = sum over i of e4m3(x[t, i] / s[t]) e4m3[o, i], times s[t] and the scale of o."""
    assert layer.activation is not None
    fixed = layer.activation.scale
    largest = np.abs(x).max(-1, keepdims=True)
    s = np.maximum(largest / 448, np.finfo(np.float32).eps) if fixed is None else np.full_like(largest, fixed)
    codes = np.clip(x / s.astype(np.float32), -448, 448).astype(E4M3).astype(np.float64)
    weight = layer.quantized.codes.to(torch.float64).numpy()
    columns = np.broadcast_to(layer.quantized.scales[:, 0].to(torch.float64).numpy(), OUT)
    product: Numbers = codes @ weight.T * s * columns
    return product


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-6), ("fp16", 1e-3), ("bf16", 8e-3)])
def test_the_twin_computes_the_product_of_codes(
    name: str, precision: Precision, limit: float, tmp_path: Path
) -> None:
    layer, x = LAYERS[name], _states(precision)
    actual = _run_twin(_graph(layer, precision), precision, x, tmp_path)
    expected = _expected(layer, x.numpy()[0])
    scale = np.abs(expected).max(-1, keepdims=True)
    assert (np.abs(actual - expected) <= limit * scale).all()  # a token by its own size, whatever others have
    assert not actual[3].any()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_twin_rounds_where_the_gpu_does(precision: Precision, tmp_path: Path) -> None:
    """To float16 behind the sum in either precision, then to that of the graph after each step."""
    layer, half = LAYERS["scale of a token"], HALF[precision]
    x = _states(precision)
    largest = np.abs(x.numpy()[0]).max(-1, keepdims=True)
    scales = np.maximum(largest / np.float32(448), np.finfo(np.float32).eps)
    codes = np.clip(x.numpy()[0] / scales, -448, 448).astype(E4M3).astype(np.float64)
    columns = (layer.quantized.scales[:, 0].numpy() * np.float32(2.0**18 / 448)).astype(half)
    step = (codes @ layer.quantized.codes.to(torch.float64).numpy().T * 2.0**-18).astype(np.float16)
    for factor in (columns, (scales * np.float32(448)).astype(half)):
        step = (step.astype(half).astype(np.float32) * factor.astype(np.float32)).astype(half)
    given = _run_twin(_graph(layer, precision), precision, x, tmp_path)
    actual = given.astype(np.float32).astype(half).astype(np.float64)  # outputs are not rounded
    expected = step.astype(np.float64)
    # But where the order of a sum in fp32 moves it over the edge of a rounding.
    assert (actual == expected).mean() > 0.99
    np.testing.assert_allclose(actual, expected, rtol=4 * float(ml_dtypes.finfo(half).eps), atol=1e-6)


@pytest.mark.parametrize("precision", HALF)
def test_the_graph_is_valid_and_cuda_has_its_operators(precision: Precision, tmp_path: Path) -> None:
    layer = qdq_layer("fp8, fp8 per token")  # with a bias
    graph = _graph(layer, precision)
    assert multiplies_fp8(graph.graph)
    assert without_kernel(graph.graph) == []
    ir.save(graph, tmp_path / "graph.onnx")
    model = onnx.load(tmp_path / "graph.onnx")
    onnx.checker.check_model(model)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)


def test_products_of_the_same_states_round_them_once() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = (QuantizedLinear(fp8_weight(), None, FP8_TOKEN) for _ in range(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            left, right = self.first(x), self.second(x)
            return left + right.abs()

    module = Two()
    assert choose_fp8_products(module) == 2
    graph = layer_graph(module, "onnx-cuda")
    assert expand_fp8_products(graph) == 2
    made = [node.op_type for node in graph.graph]
    assert made.count("GemmFloat8") == 2
    # One Clip: of the scale, from below. To the grid's edge a Cast takes what is beyond it.
    assert [made.count(operator) for operator in ("ReduceMax", "Clip", "Cast", "Shape")] == [1, 1, 1, 1]


def test_layers_of_other_maths_or_odd_sizes_are_dequantized_as_before() -> None:
    weight = fp8_weight()
    odd = replace(weight, codes=weight.codes[:-1], scales=weight.scales[:-1])
    layers = {
        "both": QuantizedLinear(weight, None, FP8_TOKEN),
        "weights alone": QuantizedLinear(weight, None, None),
        "odd": QuantizedLinear(odd, None, FP8_TOKEN),
        "int8": qdq_layer("int8, int8 per token"),
    }
    assert (
        choose_fp8_products(nn.ModuleDict({name.replace(" ", "_"): one for name, one in layers.items()})) == 1
    )
    kernels = {name: type(kernel_of(layer, "onnx-cuda")).__name__ for name, layer in layers.items()}
    assert kernels == {
        "both": "Fp8Kernel",
        "weights alone": "DequantizeKernel",
        "odd": "DequantizeKernel",
        "int8": "SignedKernel",
    }
    # Asked for on CUDA alone: for TensorRT, Q/DQ pairs stand for the same product.
    assert type(kernel_of(layers["both"], "tensorrt")).__name__ == "QdqKernel"
    assert type(kernel_of(layers["both"])).__name__ == "DequantizeKernel"


def test_a_model_without_such_layers_is_told_what_it_has() -> None:
    with pytest.raises(
        CheckpointError, match=r"this model has float8 of 256 to 96 \(inputs none\): add --quantize"
    ):
        choose_fp8_products(QuantizedLinear(fp8_weight(), None, None))
    with pytest.raises(CheckpointError, match="this model has no quantized layers"):
        choose_fp8_products(nn.Linear(16, 16))


def test_scales_below_half_precision_are_kept(tmp_path: Path) -> None:
    """fp16 has few bits below 6e-5, where scales of quiet tokens and of small weights are."""
    x = (2.0**-10 * _states("fp16")).to(torch.float16).to(torch.float32)
    weight = fp8_weight()
    small = replace(weight, scales=torch.full_like(weight.scales, 1e-9))
    for layer, states in (
        (QuantizedLinear(weight, None, FP8_TOKEN), x),
        (QuantizedLinear(small, None, FP8_TOKEN), 2.0**10 * x),
    ):
        actual = _run_twin(_graph(layer, "fp16"), "fp16", states, tmp_path)
        expected = _expected(layer, states.numpy()[0])
        assert np.linalg.norm(actual - expected) <= 2e-3 * np.linalg.norm(expected)


def test_the_largest_product_that_there_can_be_is_finite_in_float16(tmp_path: Path) -> None:
    weight = replace(
        fp8_weight(),
        codes=torch.full((OUT, IN), FP8_MAX).to(torch.float8_e4m3fn),
        scales=torch.full((1, 1), 2e-4),
    )
    layer, x = QuantizedLinear(weight, None, FP8_TOKEN), torch.full((1, 33, IN), 8.0)
    actual = _run_twin(_graph(layer, "fp16"), "fp16", x, tmp_path)
    np.testing.assert_allclose(actual, FP8_MAX * 2e-4 * 8 * IN, rtol=2e-3)
