"""Low-bit rankers for ONNX Runtime on CUDA, in fp32 and beside half precision: operators, maths, bundles."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from rankport.exporters.export import export
from rankport.exporters.graphs.passes.half_precision import emulate, to_half_precision
from rankport.exporters.quantization.activation import FP8_MAX, Activation
from rankport.exporters.quantization.kernels.select import kernel_of
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.exporters.quantization.recipes import RECIPES
from rankport.exporters.quantization.weight import QuantizedWeight
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Precision, Target
from support import checkpoints
from support.effort import every_run, full_effort
from support.forms.gptq_checkpoints import Gptq, gptq
from support.forms.quantized_checkpoints import SHAPE, compressed_tensors
from support.gpu.cuda_kernels import without_kernel
from support.gpu.gpus import has_cuda
from support.gpu.qdq import (
    IN,
    fp4_weight,
    fp8_block_weight,
    fp8_weight,
    layer_graph,
    qdq_layer,
    random_weight,
)

RANKER = {"kind": "ranker", "label_ids": (4, 5), "max_prefix_tokens": 40, "max_item_tokens": 24}


def _run(graph: ir.Model, x: torch.Tensor, file: Path) -> NDArray[np.float32]:
    ir.save(graph, file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {"x": x.numpy()})[0]
    return result


def _error(actual: NDArray[np.float32], layer: QuantizedLinear, x: torch.Tensor) -> float:
    expected = layer(x).numpy()
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


KERNELS = {
    "int8, int8 per token": "SignedKernel",
    "int8, int8 per tensor": "SignedKernel",
    "int8 weights alone": "NBitsKernel",
    "int8 in groups, asymmetric": "NBitsKernel",
    "int8 in groups, int8 per token": "_Rounding",
    "int4 asymmetric": "NBitsKernel",  # some zero points off the grid
    "int4 act-order": "NBitsKernel",
    "int4 in groups of 8": "DequantizeKernel",
    "int4, fp8 per tensor": "_Rounding",
    "fp4 weights alone": "NBitsKernel",
    "fp4, fp4 per block": "_Rounding",
    "fp4, fp8 per block": "_Rounding",
    "fp8 weights alone, one scale": "DequantizeKernel",
    "fp8 in blocks": "FloatBlocksKernel",
    "fp8 in blocks, fp8 per block": "FloatBlocksKernel",
    "fp8, fp8 per token": "DequantizeKernel",
    "fp8, fp8 per tensor": "DequantizeKernel",
}


@pytest.mark.parametrize("name", KERNELS)
def test_a_layer_for_cuda_computes_its_maths_in_operators_that_cuda_has(name: str, tmp_path: Path) -> None:
    layer = qdq_layer(name)
    assert type(kernel_of(layer, "onnx-cuda")).__name__ == KERNELS[name]
    x = torch.randn(1, 33, IN, generator=torch.Generator().manual_seed(1))
    x[0, 3] = 0  # a token of zeros has no largest value
    graph = layer_graph(layer, "onnx-cuda")
    assert without_kernel(graph.graph) == []
    assert _error(_run(graph, x, tmp_path / "layer.onnx"), layer, x) <= 1e-5
    to_half_precision(graph, "bf16", fused=True)
    assert without_kernel(graph.graph) == []


def test_groups_that_cuda_cannot_dequantize_are_refused_with_the_way_out() -> None:
    with pytest.raises(CheckpointError, match=r"in 3 groups: .*--target onnx-cpu or tensorrt"):
        kernel_of(qdq_layer("int4 unequal groups, asymmetric"), "onnx-cuda")


def test_inputs_in_fp4_are_refused_for_tensorrt_with_the_way_out() -> None:
    with pytest.raises(CheckpointError, match=r"rounded to fp4 .*: use --target onnx-cpu or onnx-cuda"):
        kernel_of(qdq_layer("fp4, fp4 per block"), "tensorrt")


TOKEN = Activation("int8-token")
FP8_TOKEN = Activation("fp8-token", divisor=FP8_MAX)
QUIET: dict[str, tuple[QuantizedWeight, Activation | None]] = {
    "int8": (random_weight(8, 1), TOKEN),
    "int8, fixed scale": (random_weight(8, 1), Activation("int8-tensor", scale=2e-5)),
    "fp8": (fp8_weight(), FP8_TOKEN),
    "fp8, fixed scale": (fp8_weight(), Activation("fp8-tensor", scale=5e-6)),
    "fp8 in blocks": (fp8_block_weight(), Activation("fp8-block", divisor=FP8_MAX, block=128)),
    "int4": (random_weight(4, 2), None),
    "fp4": (fp4_weight(), None),
}


@pytest.mark.parametrize("target", ["onnx-cuda", "tensorrt"])
@pytest.mark.parametrize("name", QUIET)
def test_scales_below_half_precision_are_kept(name: str, target: Target, tmp_path: Path) -> None:
    """fp16 has few bits below 6e-5, where scales of quiet tokens and of small weights are."""
    x = 1e-3 * torch.randn(1, 33, IN, generator=torch.Generator().manual_seed(1))
    x = x.to(torch.float16).to(torch.float32)  # as half precision gives it
    weight, activation = QUIET[name]
    small = QuantizedWeight(weight.codes, torch.full_like(weight.scales, 3e-6), None, weight.bits)
    for layer, states in (
        (QuantizedLinear(weight, None, activation), x),
        (QuantizedLinear(small, None, None), 2.0**12 * x),
    ):
        graph = layer_graph(layer, target)
        to_half_precision(graph, "fp16", fused=target == "onnx-cuda")
        emulate(graph, "fp16")
        assert _error(_run(graph, states, tmp_path / "layer.onnx"), layer, states) <= 2e-3


Make = Callable[[Path], tuple[Path, dict[str, Any]]]


def _dense(to: Path) -> Path:
    return checkpoints.causal_lm(to, "qwen3", num_hidden_layers=1, **SHAPE)


FORMS: dict[str, Make] = {
    **{
        f"{recipe} at export": lambda to, recipe=recipe: (_dense(to), {"quantize": recipe})
        for recipe in RECIPES
    },
    "fp8 products at export": lambda to: (_dense(to), {"quantize": "fp8", "fp8_products": True}),
    "fp8 products of an FP8 checkpoint": lambda to: (
        compressed_tensors(to, "FP8", num_hidden_layers=1),
        {"fp8_products": True},
    ),
    "FP8 checkpoint in blocks": lambda to: (compressed_tensors(to, "FP8_BLOCK", num_hidden_layers=1), {}),
    "NVFP4 checkpoint": lambda to: (compressed_tensors(to, "NVFP4", num_hidden_layers=1), {}),
    "NVFP4A16 checkpoint": lambda to: (compressed_tensors(to, "NVFP4A16", num_hidden_layers=1), {}),
    "MXFP4 checkpoint": lambda to: (compressed_tensors(to, "MXFP4XFP8", num_hidden_layers=1), {}),
    "W8A8 checkpoint": lambda to: (compressed_tensors(to, "W8A8", num_hidden_layers=1), {}),
    "GPTQ checkpoint": lambda to: (gptq(to, Gptq(group_size=64, desc_act=True, sym=False)), {}),
}
CASES = [
    *((f"{recipe} at export", precision) for recipe in RECIPES for precision in ("fp32", "fp16")),
    ("fp8 at export", "bf16"),
    *(("fp8 products at export", precision) for precision in ("fp32", "fp16", "bf16")),
    ("fp8 products of an FP8 checkpoint", "fp16"),
    *(("FP8 checkpoint in blocks", precision) for precision in ("fp32", "fp16", "bf16")),
    ("NVFP4 checkpoint", "fp32"),
    *(("NVFP4A16 checkpoint", precision) for precision in ("fp16", "bf16")),
    ("MXFP4 checkpoint", "fp16"),
    ("W8A8 checkpoint", "fp16"),
    ("GPTQ checkpoint", "fp32"),
]


EVERY_RUN = {
    ("int4 at export", "fp16"),
    ("fp8 at export", "bf16"),
    ("fp8 products at export", "fp32"),
}
"""A kernel and a precision each; layers beside have every pair."""


@pytest.fixture(scope="module", params=every_run(CASES, EVERY_RUN), ids=" ".join)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Precision, Path, Bundle]:
    """Its form and precision, its checkpoint, and the bundle: the export itself has measured its parity."""
    form, precision = request.param
    folder = tmp_path_factory.mktemp("cuda")
    checkpoint, options = FORMS[form](folder / "c")
    bundle = export(checkpoint, folder / "b", target="onnx-cuda", precision=precision, **RANKER, **options)
    return form, precision, checkpoint, bundle


def test_every_node_of_a_bundle_has_a_kernel_on_cuda(made: tuple[str, Precision, Path, Bundle]) -> None:
    bundle = made[3]
    graph = ir.load(bundle.path / "ranker.onnx").graph
    assert without_kernel(graph) == []


def test_a_bundle_says_whether_it_multiplies_fp8(made: tuple[str, Precision, Path, Bundle]) -> None:
    form, precision, _, bundle = made
    asked = form.startswith("fp8 products")
    graph = ir.load(bundle.path / "ranker.onnx").graph
    assert sum(node.op_type == "GemmFloat8" for node in graph) == (7 if asked else 0)
    assert [spec.fp8_products for spec in bundle.manifest.graphs] == [asked, asked]
    assert bundle.manifest.on_cpu == (precision == "fp32" and not asked)


def test_a_bundle_equals_its_source_within_the_tolerance(made: tuple[str, Precision, Path, Bundle]) -> None:
    form, precision, _, bundle = made
    manifest = bundle.manifest
    parity = manifest.parity
    assert parity is not None
    assert manifest.precision == precision
    assert all(parity.holds(mode) for mode in parity.modes)
    if precision != "fp32":
        assert "emulated" in parity.backend
        assert parity.precision.endswith(f", rest {precision}")
        assert parity.noise is not None
        assert parity.noise.relative_error is not None
        assert all((mode.relative_error or 0.0) <= 1.5 * parity.noise.relative_error for mode in parity.modes)
    elif form in ("int4 at export", "GPTQ checkpoint"):
        assert parity.max_abs_tolerance == 1e-4  # weights alone are low-bit: nothing is rounded
    else:
        assert max(mode.relative_error or 0.0 for mode in parity.modes) <= 1e-2


def test_a_bundle_is_as_small_as_its_bits(made: tuple[str, Precision, Path, Bundle]) -> None:
    form, _, _, bundle = made
    quantization, shape = bundle.manifest.quantization, bundle.manifest.shape
    assert quantization is not None
    # fp4 is stored as codes of a byte, with a scale 16 of them, or 32.
    weights = sum(part.weights for part in quantization.parts)
    in_bytes, scales = "FP4" in form, weights // 4 if "FP4" in form else 0
    low_bit = sum(part.weights * (8 if in_bytes else part.bits) // 8 for part in quantization.parts)
    table = 0 if any(part.part == "embedding" for part in quantization.parts) else shape.vocab_size
    kept = (2 + table) * shape.hidden_size * 4
    values = ir.load(bundle.path / "ranker.onnx").graph.initializers.values()
    tensors = {
        tensor.offset: tensor.nbytes
        for value in values
        if isinstance(tensor := value.const_value, ir.ExternalTensor)
    }
    stored = sum(tensors.values())
    assert low_bit <= stored <= 1.1 * low_bit + scales + kept


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda(), reason="no NVIDIA GPU, or no onnxruntime-gpu")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_products_of_fp8_are_proven_on_cuda(precision: Precision, tmp_path: Path) -> None:
    checkpoint, options = FORMS["fp8 products at export"](tmp_path / "c")
    bundle = export(checkpoint, tmp_path / "b", target="onnx-cuda", precision=precision, **RANKER, **options)
    assert not verify(bundle.path, checkpoint, device="cuda").failures


@pytest.mark.parametrize("made", [("int4 at export", "fp16")], indirect=True, ids=" ".join)
def test_verify_makes_the_same_low_bit_model_again(made: tuple[str, Precision, Path, Bundle]) -> None:
    _, _, checkpoint, bundle = made
    assert verify(bundle.path, checkpoint).failures == ()


@full_effort
def test_an_encoder_of_texts_multiplies_fp8_too(encoder_checkpoint: Path, tmp_path: Path) -> None:
    encoder = {"kind": "item-encoder", "pooling": "mean", "max_item_tokens": 32}
    low: dict[str, Any] = {"quantize": "fp8", "fp8_products": True, "precision": "bf16"}
    bundle = export(encoder_checkpoint, tmp_path / "b", target="onnx-cuda", **encoder, **low)
    graph = ir.load(bundle.file(bundle.graph("encode").file)).graph
    assert without_kernel(graph) == []
    layers = 2 * 6  # queries, keys, values, their output, and two of the MLP
    assert sum(node.op_type == "GemmFloat8" for node in graph) == layers
    parity = bundle.manifest.parity
    assert parity is not None
    assert parity.backend == "onnxruntime-cpu, half precision and fp8 products emulated"
    assert all(parity.holds(mode) for mode in parity.modes)
