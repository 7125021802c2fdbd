"""Plans in a bundle, from the command line, for GPUs that are not there: built with TensorRT-RTX, never run."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import onnx
import pytest
from onnx import TensorProto, helper

from rankport.exporters.export import export
from rankport.protos.errors import BackendError, BundleError, InvalidRequest
from rankport.runtime.backends.devices.cuda.gpus import Gpu, list_gpus
from rankport.runtime.backends.devices.cuda.memory import CudaMemory
from rankport.runtime.backends.tensorrt.build import BuildTarget, build_plans
from rankport.runtime.backends.tensorrt.build_options import BuildOptions
from rankport.runtime.backends.tensorrt.loading import find_plan, load_graph
from rankport.runtime.backends.tensorrt.module import load_tensorrt, make_log, take_errors
from rankport.runtime.backends.tensorrt.network import check_supported, list_refused_nodes
from rankport.runtime.backends.tensorrt.profile_limits import ProfileLimits
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.table import open_bundle
from support import checkpoints
from support.bundle_samples import ENCODER_FILES, encoder_draft, write_directory
from support.cli import built, rankport
from support.effort import FACTOR, every_run

pytest.importorskip(
    "tensorrt_rtx", reason="tensorrt-rtx is not installed: pip install tensorrt-rtx", exc_type=ImportError
)

needs_no_gpu = pytest.mark.skipif(
    bool(list_gpus()), reason="this machine has a GPU: the error is of one without"
)
SMALL = ("--max-batch-tokens", 64, "--max-prefixes", 1)
ARCHITECTURES = ("sm86", "sm89", "sm120")
BUILT = ARCHITECTURES if FACTOR > 1 else ("sm89", "sm120")


@pytest.fixture(scope="module")
def ranker(mix_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ranker of embedding tokens with plans for several architectures."""
    folder = tmp_path_factory.mktemp("plans") / "mix"
    shutil.copytree(mix_bundle.path, folder)
    plans = built(folder, "--target", f"tensorrt-rtx:{','.join(BUILT)}", *SMALL)
    assert [(plan["key"]["architecture"], plan["key"]["graph"]) for plan in plans] == [
        (architecture, graph) for architecture in BUILT for graph in ("prefix.onnx", "score.onnx")
    ]
    assert {plan["state"] for plan in plans} == {"built"}
    return folder


@pytest.fixture
def encoder(encoder_bundle: Bundle, tmp_path: Path) -> Path:
    """An item encoder without plans."""
    return Path(shutil.copytree(encoder_bundle.path, tmp_path / "encoder"))


def test_a_bundle_carries_plans_for_several_architectures_and_inspect_shows_them(
    ranker: Path, mix_bundle: Bundle
) -> None:
    assert open_bundle(ranker).manifest == mix_bundle.manifest
    shown = rankport("inspect", ranker)
    for words in (*BUILT, "tensorrt_rtx", "latency-", "fits"):
        assert words in shown.stdout
    plans = json.loads(rankport("inspect", ranker, "--json", "-").stdout)["plans"]
    assert len(plans) == 2 * len(BUILT)
    assert all(plan["fits"] and not plan["other_version"] for plan in plans)
    for plan in plans:
        content = (ranker / plan["path"] / "plan.bin").read_bytes()
        assert hashlib.sha256(content).hexdigest() == plan["file"]["sha256"]


@pytest.mark.parametrize("precision", every_run(["fp16", "bf16"], ()))
def test_graphs_of_half_precision_are_built(precision: str, tmp_path: Path) -> None:
    checkpoint = checkpoints.causal_lm(tmp_path / "c", "qwen3", num_hidden_layers=1)
    bundle = export(
        checkpoint,
        tmp_path / "b",
        kind="ranker",
        label_ids=(9, 17),
        max_prefix_tokens=16,
        max_item_tokens=16,
        target="tensorrt",
        precision=precision,
    )
    plans = build_plans(
        bundle, BuildTarget.parse("tensorrt-rtx:sm89"), limits=ProfileLimits(32, max_prefixes=1)
    )
    assert {one.plan.record.key.graph for one in plans} == {"prefix.onnx", "score.onnx"}


def test_what_is_there_and_fits_is_not_built_again(ranker: Path) -> None:
    again = built(ranker, "--target", f"tensorrt-rtx:{','.join(BUILT)}", *SMALL)
    assert {plan["state"] for plan in again} == {"there"}


def test_what_differs_is_built_again_and_said(encoder: Path) -> None:
    target = BuildTarget.parse("tensorrt-rtx:sm89")
    bundle = open_bundle(encoder)
    limits = ProfileLimits(max_batch_tokens=32)
    first, wider = (
        build_plans(bundle, target, limits=chosen)[0]
        for chosen in (limits, ProfileLimits(max_batch_tokens=64))
    )
    assert (first.state, first.replaced) == ("built", "")
    assert wider.state == "built"
    assert "profiles" in wider.replaced
    (rounded,) = build_plans(bundle, target, limits=limits, options=BuildOptions(tf32=True))
    assert "options.tf32 is False, wanted True" in rounded.replaced
    (forced,) = build_plans(bundle, target, limits=limits, options=BuildOptions(tf32=True), force=True)
    assert (forced.state, forced.replaced) == ("built", "")
    (forced.plan.path / "plan.bin").write_bytes(b"truncated")
    (mended,) = build_plans(bundle, target, limits=limits, options=BuildOptions(tf32=True))
    assert mended.state == "built"
    assert "plan.bin has 9 bytes" in mended.replaced


WRONG: dict[str, tuple[tuple[object, ...], str]] = {
    "unknown target": (("--target", "cuda"), "target 'cuda': must be one of tensorrt, tensorrt-rtx"),
    "unknown architecture": (("--target", "tensorrt-rtx:sm90"), "has no architecture 'sm90', only sm75"),
    "no architecture": (("--target", "tensorrt-rtx:"), "has no architecture ''"),
    "architecture of tensorrt": (("--target", "tensorrt:sm90"), "builds for the GPU at hand alone"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_options_are_refused_with_the_way_out(what: str, encoder: Path) -> None:
    arguments, words = WRONG[what]
    done = rankport("build", encoder, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (encoder / "plans").exists()


def test_a_limit_out_of_its_range_is_wrong_usage(encoder: Path) -> None:
    done = rankport("build", encoder, "--target", "tensorrt-rtx", "--max-prefixes", 0)
    assert done.returncode == 2
    assert "--max-prefixes is '0': it must be at least 1" in done.stderr
    assert not (encoder / "plans").exists()


@needs_no_gpu
def test_the_gpu_at_hand_is_not_built_for_where_there_is_none(encoder: Path) -> None:
    done = rankport("build", encoder, "--target", "tensorrt-rtx:current")
    assert done.returncode == 2
    assert "there is none here" in done.stderr
    assert "--target tensorrt-rtx:sm86,sm89,sm120" in done.stderr


def test_build_refuses_what_is_no_bundle_and_wrong_usage(tmp_path: Path) -> None:
    missing = rankport("build", tmp_path / "nothing", "--target", "tensorrt-rtx")
    assert missing.returncode == 1
    assert "BundleError" in missing.stderr
    assert rankport("build", tmp_path).returncode == 2


def _refused(folder: Path) -> Path:
    """A graph of three operators that TensorRT does not have, among one that it has."""
    nodes = [
        helper.make_node("Unique", ["x"], ["u"], name="first"),
        helper.make_node("Relu", ["x"], ["r"], name="fine"),
        helper.make_node("MatMulInteger", ["i", "i"], ["m"], name="second"),
        helper.make_node("SkipNothing", ["x"], ["s"], name="third", domain="com.example"),
    ]
    tensors = {"x": TensorProto.FLOAT, "i": TensorProto.INT8, "u": TensorProto.FLOAT, "m": TensorProto.INT32}
    tensors |= {"s": TensorProto.FLOAT, "r": TensorProto.FLOAT}
    values = {name: helper.make_tensor_value_info(name, kind, [4, 4]) for name, kind in tensors.items()}
    graph = helper.make_graph(nodes, "g", [values["x"], values["i"]], [values[name] for name in "umsr"])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)]
    file = folder / "refused.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), file)
    return file


def test_every_node_that_tensorrt_refuses_is_listed_with_operator_and_reason(tmp_path: Path) -> None:
    module, file = load_tensorrt("tensorrt_rtx"), _refused(tmp_path)
    refused = list_refused_nodes(module, file)
    assert [(node.operator, node.node) for node in refused] == [
        ("Unique", "first"),
        ("MatMulInteger", "second"),
        ("SkipNothing", "third"),
    ]
    with pytest.raises(
        BundleError, match=r"refused\.onnx: tensorrt_rtx .* does not take 3 of its nodes"
    ) as error:
        check_supported(module, file)
    assert "Unique (node 'first'): TensorRT has no such operator" in str(error.value)
    assert "SkipNothing (node 'third'): TensorRT has no such operator, nor a plugin" in str(error.value)


def test_nodes_after_one_that_the_parser_trips_over_are_listed_too(tmp_path: Path) -> None:
    file = tmp_path / "quantized.onnx"
    tensors = {"x": TensorProto.FLOAT, "w": TensorProto.UINT8, "a": TensorProto.FLOAT, "u": TensorProto.FLOAT}
    values = {name: helper.make_tensor_value_info(name, kind, [4, 4]) for name, kind in tensors.items()}
    nodes = [
        helper.make_node("MatMulNBits", ["x", "w"], ["a"], name="first", domain="com.microsoft"),
        helper.make_node("MatMulNBits", ["a", "w"], ["b"], name="second", domain="com.microsoft"),
        helper.make_node("Unique", ["x"], ["u"], name="third"),
    ]
    graph = helper.make_graph(nodes, "g", [values["x"], values["w"]], [values["a"], values["u"]])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), file)
    refused = list_refused_nodes(load_tensorrt("tensorrt_rtx"), file)
    assert [node.node for node in refused] == ["first", "second", "third"]
    assert refused[1].reason == "an operator of com.microsoft, not of the ONNX standard"
    assert refused[2].reason == "TensorRT has no such operator"


def test_a_bundle_that_tensorrt_refuses_gets_no_plan(tmp_path: Path) -> None:
    files = {**ENCODER_FILES, "encode.onnx": _refused(tmp_path).read_bytes()}
    root = write_directory(tmp_path / "b", encoder_draft(), files)
    done = rankport("build", root, "--target", "tensorrt-rtx:sm89")
    assert done.returncode == 1
    assert "Unique (node 'first')" in done.stderr
    assert "SkipNothing (node 'third')" in done.stderr
    assert not (root / "plans").exists()


def test_a_graph_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "junk.onnx"
    file.write_bytes(b"junk")
    with pytest.raises(BundleError, match="Failed to parse the ONNX model"):
        check_supported(load_tensorrt("tensorrt_rtx"), file)


def test_the_plan_for_a_gpu_is_found_and_a_miss_says_what_differs(ranker: Path) -> None:
    bundle = open_bundle(ranker)
    graph = bundle.manifest.graphs[0]
    found, module = find_plan(bundle, graph, Gpu("NVIDIA GeForce RTX 4090", "sm89", 24 * 2**30))
    assert (found.record.key.architecture, module.name) == ("sm89", "tensorrt_rtx")
    with pytest.raises(
        BundleError,
        match=r"no plan of prefix\.onnx for NVIDIA H200 \(sm90\).*wanted sm90.*--target tensorrt$",
    ):
        find_plan(bundle, graph, Gpu("NVIDIA H200", "sm90", 139 * 2**30))


@needs_no_gpu
def test_a_plan_is_not_loaded_without_a_gpu(ranker: Path) -> None:
    bundle = open_bundle(ranker)
    with pytest.raises(BackendError, match="device 0: this machine has 0 GPUs"):
        load_graph(bundle, bundle.manifest.graphs[0], cast(CudaMemory, SimpleNamespace(device=0, cuda=None)))


@pytest.mark.skipif(load_tensorrt().name == "tensorrt", reason="TensorRT itself is installed")
def test_a_module_that_is_not_installed_comes_with_its_command(encoder: Path) -> None:
    done = rankport("build", encoder, "--target", "tensorrt")
    assert done.returncode == 1
    assert "pip install 'rankport[tensorrt]'" in done.stderr


def test_the_spurious_line_of_a_machine_without_a_gpu_is_not_an_error() -> None:
    module = load_tensorrt("tensorrt_rtx")
    log, levels = make_log(module), module.api.ILogger.Severity
    log.log(
        levels.ERROR,
        "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (cudaError 35: driver)",
    )
    assert take_errors(log) == "it gave no reason"
    log.log(levels.ERROR, "a profile does not fit")
    log.log(levels.WARNING, "slow")
    assert take_errors(log) == "a profile does not fit"
    assert take_errors(log) == "it gave no reason"


def test_targets_are_parsed() -> None:
    assert BuildTarget.parse("tensorrt") == BuildTarget("tensorrt", (None,))
    assert BuildTarget.parse("tensorrt-rtx:current") == BuildTarget("tensorrt_rtx", (None,))
    assert BuildTarget.parse("tensorrt-rtx") == BuildTarget("tensorrt_rtx", ARCHITECTURES)
    assert BuildTarget.parse("tensorrt-rtx:sm120,sm120") == BuildTarget("tensorrt_rtx", ("sm120",))
    with pytest.raises(InvalidRequest, match="must be one of"):
        BuildTarget.parse("")
