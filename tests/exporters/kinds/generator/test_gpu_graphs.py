"""Generators for ONNX Runtime on CUDA: operators, half precision and low bits, with their proof."""

from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from rankport.exporters.export import export
from rankport.exporters.verify import verify
from support.effort import every_run
from support.gpu.cuda_kernels import without_kernel
from support.gpu.gpus import has_cuda

LIMITS = {"kind": "generator", "max_prefix_tokens": 64, "max_item_tokens": 64}


def test_one_graph_has_both_roles_and_cuda_has_every_operator(
    generator_checkpoint: Path, tmp_path: Path
) -> None:
    made = export(generator_checkpoint, tmp_path / "b", target="onnx-cuda", **LIMITS)
    files = {graph.file for graph in made.manifest.graphs}
    assert len(files) == 1  # one session, one copy of the weights
    for file in files:
        assert not without_kernel(ir.load(made.file(file)).graph)


@pytest.mark.parametrize("precision", every_run(["fp16", "bf16"], {"fp16"}))
def test_half_precision_is_proven_by_its_twin(
    precision: str, generator_checkpoint: Path, tmp_path: Path
) -> None:
    made = export(generator_checkpoint, tmp_path / "b", target="onnx-cuda", precision=precision, **LIMITS)
    parity = made.manifest.parity
    assert parity is not None
    assert (parity.precision, parity.backend) == (precision, "onnxruntime-cpu, half precision emulated")
    assert parity.noise is not None
    half = {"fp16": "float16", "bf16": "bfloat16"}[precision]
    types = {tensor.name.partition(".")[0]: tensor.dtype for tensor in made.graph("decode").outputs}
    assert types == {
        "logits": "float32",
        "new_key": half,
        "new_value": half,
        "likeliest": "int64",
        "likeliest_logits": "float32",
        "log_sums": "float32",
        "asked_logits": "float32",
    }
    assert not without_kernel(ir.load(made.file(made.graph("decode").file)).graph)


@pytest.mark.parametrize("products", every_run(["int4", "fp8", "fp8 by fp8"], {"int4", "fp8 by fp8"}))
def test_low_bits_are_in_operators_that_cuda_has(
    products: str, generator_checkpoint: Path, tmp_path: Path
) -> None:
    recipe, _, by = products.partition(" by ")
    low: dict[str, Any] = {"target": "onnx-cuda", "precision": "fp16", "quantize": recipe}
    low |= {"fp8_products": True} if by else {}
    made = export(generator_checkpoint, tmp_path / "b", **low, **LIMITS)
    assert made.manifest.quantization is not None
    assert made.graph("decode").fp8_products == bool(by)
    assert not without_kernel(ir.load(made.file(made.graph("decode").file)).graph)


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda(), reason="no NVIDIA GPU, or no onnxruntime-gpu")
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_is_proven_on_cuda(precision: str, generator_checkpoint: Path, tmp_path: Path) -> None:
    made = export(generator_checkpoint, tmp_path / "b", target="onnx-cuda", precision=precision, **LIMITS)
    assert not verify(made.path, generator_checkpoint, device="cuda").failures
