"""Bundles for TensorRT: of standard operators, as small as their bits, equal to their source, and built by TensorRT."""

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest

from rankport.exporters.export import export
from rankport.exporters.graphs.weights import PAGE_BYTES
from rankport.exporters.quantization.recipes import RECIPES
from rankport.exporters.verify import verify
from rankport.runtime.backends.tensorrt.build import BuildTarget, build_plans
from rankport.runtime.backends.tensorrt.profile_limits import ProfileLimits
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import GraphSpec
from support import checkpoints
from support.effort import every_run
from support.forms.quantized_checkpoints import SHAPE, compressed_tensors

Make = Callable[[Path], tuple[Path, dict[str, object]]]


def _dense(to: Path) -> Path:
    return checkpoints.causal_lm(to, "qwen3", num_hidden_layers=1, **SHAPE)


IN_FP16 = ", the rest in fp16"
FORMS: dict[str, Make] = {
    **{
        f"{recipe} at export": lambda to, recipe=recipe: (_dense(to), {"quantize": recipe})
        for recipe in RECIPES
    },
    **{
        f"{recipe} at export{IN_FP16}": lambda to, recipe=recipe: (
            _dense(to),
            {"quantize": recipe, "precision": "fp16"},
        )
        for recipe in RECIPES
    },
    "asymmetric int4 checkpoint, two graphs": lambda to: (
        compressed_tensors(to, "W4A16_ASYM", num_hidden_layers=1),
        {"graphs": "separate"},
    ),
    "fp8 checkpoint in blocks": lambda to: (compressed_tensors(to, "FP8_BLOCK", num_hidden_layers=1), {}),
    "fp8 checkpoint of fixed scales": lambda to: (compressed_tensors(to, "FP8", num_hidden_layers=1), {}),
}


EVERY_RUN = {
    "int4 at export",
    f"fp8 at export{IN_FP16}",
    "asymmetric int4 checkpoint, two graphs",
}
"""A kernel each, and each form; layers beside have every pair."""


@pytest.fixture(scope="module", params=every_run(FORMS, EVERY_RUN))
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Bundle]:
    """Its form, its checkpoint, and the bundle: the export itself has measured its parity."""
    folder = tmp_path_factory.mktemp("qdq")
    checkpoint, options = FORMS[request.param](folder / "c")
    bundle = export(
        checkpoint,
        folder / "b",
        kind="ranker",
        label_ids=(9, 17),
        max_prefix_tokens=40,
        max_item_tokens=24,
        target="tensorrt",
        **options,
    )
    return request.param, checkpoint, bundle


def _graphs(bundle: Bundle) -> dict[str, GraphSpec]:
    """By file; the inputs of a file's roles are the same."""
    return {graph.file: graph for graph in bundle.manifest.graphs}


def test_a_bundle_for_tensorrt_is_of_standard_operators_and_equals_its_source(
    made: tuple[str, Path, Bundle],
) -> None:
    form, _, bundle = made
    manifest = bundle.manifest
    assert {graph.target for graph in manifest.graphs} == {"tensorrt"}
    for file in _graphs(bundle):
        model = ir.load(bundle.path / file)
        assert list(model.opset_imports) == [""]
        assert {node.domain for node in model.graph} == {""}
    assert manifest.parity is not None
    assert all(manifest.parity.holds(mode) for mode in manifest.parity.modes)
    # Weights alone are low-bit: nothing is rounded, and the tolerance is that of any export.
    in_fp32 = manifest.precision == "fp32"
    assert in_fp32 != form.endswith(IN_FP16)
    weights_alone = "int4" in form or "int8-fine" in form
    assert (weights_alone and in_fp32) == (manifest.parity.max_abs_tolerance == 1e-4)


def test_a_bundle_for_tensorrt_is_as_small_as_its_bits(made: tuple[str, Path, Bundle]) -> None:
    _, _, bundle = made
    quantization = bundle.manifest.quantization
    assert quantization is not None
    low_bit = sum(part.weights * part.bits // 8 for part in quantization.parts)
    tables = 1 if any(part.part == "embedding" for part in quantization.parts) else 2
    kept = (2 + (checkpoints.VOCABULARY if tables == 2 else 0)) * bundle.manifest.shape.hidden_size * 4
    tensors = {}
    for file in _graphs(bundle):
        for value in ir.load(bundle.path / file).graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                tensors[tensor.offset] = tensor.nbytes
    assert low_bit <= sum(tensors.values()) <= 1.1 * low_bit + kept
    on_disk = (bundle.path / "weights.bin").stat().st_size
    assert on_disk <= sum(tensors.values()) + PAGE_BYTES * len(tensors)


@pytest.mark.parametrize("made", ["int4 at export"], indirect=True)  # whose rounding the target decides
def test_verify_makes_the_same_low_bit_model_again(made: tuple[str, Path, Bundle]) -> None:
    _, checkpoint, bundle = made
    assert verify(bundle.path, checkpoint).failures == ()


def test_tensorrt_builds_the_graphs_of_a_bundle(made: tuple[str, Path, Bundle]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed", exc_type=ImportError)
    _, _, bundle = made
    plans = build_plans(
        bundle, BuildTarget.parse("tensorrt-rtx:sm89"), limits=ProfileLimits(64, max_prefixes=1)
    )
    assert {one.plan.record.key.graph for one in plans} == set(_graphs(bundle))
