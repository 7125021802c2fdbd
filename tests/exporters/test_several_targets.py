"""One bundle for several targets: each proven, weights that are equal stored once, and every device finds its own."""

from pathlib import Path

import pytest

from rankport.exporters.export import export
from rankport.exporters.kinds.ranker.proof.modes import MODES
from rankport.exporters.kinds.ranker.proof.samples import sample_requests
from rankport.exporters.verify import verify
from rankport.protos.errors import BundleError, InvalidRequest
from rankport.runtime.backends.ort.cpu import OnnxRuntimePrefixBackend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest_rules import check_manifest
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.kinds.table import open_bundle, rules_of
from support import checkpoints
from support.gpu.host_device import HostMemory, host_backend

RANKER = {"kind": "ranker", "label_ids": (9, 17), "max_prefix_tokens": 40, "max_item_tokens": 24}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.causal_lm(tmp_path_factory.mktemp("targets") / "c", "qwen3", num_hidden_layers=1)


@pytest.fixture(scope="module")
def mixed(checkpoint: Path) -> Bundle:
    """fp32 for a CPU, fp16 for CUDA."""
    out = checkpoint.parent / "mixed"
    return export(checkpoint, out, target="onnx-cpu,onnx-cuda", precision="fp16", **RANKER)


def test_a_view_of_one_target_opens_as_a_bundle_of_its_own(mixed: Bundle) -> None:
    view = mixed.for_target("onnx-cuda").manifest
    check_manifest(view, rules_of())
    assert view.fingerprint != mixed.manifest.fingerprint


def test_each_target_is_proven_in_its_precision(mixed: Bundle) -> None:
    manifest = open_bundle(mixed.path).manifest
    assert manifest.targets == ("onnx-cpu", "onnx-cuda")
    assert manifest.precision == "fp32"
    assert manifest.for_target("onnx-cuda").precision == "fp16"
    assert manifest.parity is not None
    assert manifest.parity.max_abs_tolerance == 1e-4
    assert manifest.target_parity is not None
    of_cuda = manifest.target_parity["onnx-cuda"]
    assert of_cuda.precision == "fp16"
    assert all(of_cuda.holds(mode) for mode in of_cuda.modes)


def test_a_cpu_serves_its_own_graphs_and_a_gpu_is_told_what_it_lacks(mixed: Bundle, checkpoint: Path) -> None:
    with Ranker.load(mixed, config=EngineConfig(threads=1)) as ranker:
        scores = ranker.score([5, 6, 7], [[8, 9], [10]]).scores
    plain = export(checkpoint, checkpoint.parent / "plain", **RANKER)
    with Ranker.load(plain, config=EngineConfig(threads=1)) as ranker:
        assert (ranker.score([5, 6, 7], [[8, 9], [10]]).scores == scores).all()
    with pytest.raises(InvalidRequest, match="graphs for onnx-cpu, not for CUDA"):
        Ranker.load(plain, config=EngineConfig(device="cuda"))


def test_verify_proves_all_that_the_device_runs(mixed: Bundle, checkpoint: Path) -> None:
    verdict = verify(mixed.path, checkpoint)
    assert verdict.failures == ()
    assert list(verdict.proofs) == ["onnx-cpu", "onnx-cuda"]
    assert verdict.proof.parity == mixed.manifest.parity
    with pytest.raises(InvalidRequest, match="onnx-cpu, onnx-cuda, which --device tensorrt does not run"):
        verify(mixed.path, checkpoint, device="tensorrt")


def test_equal_weights_of_two_targets_are_stored_once(checkpoint: Path) -> None:
    alone = export(checkpoint, checkpoint.parent / "alone", **RANKER)
    both = export(checkpoint, checkpoint.parent / "both", target=("onnx-cpu", "onnx-cuda"), **RANKER)
    sizes = [(bundle.path / "weights.bin").stat().st_size for bundle in (alone, both)]
    assert sizes[1] <= sizes[0] * 1.05
    shape, limits = both.manifest.shape, both.manifest.limits
    requests = sample_requests(shape.vocab_size, shape.hidden_size, limits, None)
    memory = HostMemory()
    device = host_backend(both.for_target("onnx-cuda"), memory)
    expected = MODES["prefix_reuse"](OnnxRuntimePrefixBackend(both.for_target("onnx-cpu")), requests)
    for one, other in zip(expected, MODES["prefix_reuse"](device, requests), strict=True):
        assert abs(one - other).max() <= 1e-5
    device.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "onnx-cpu,onnx-gpu"}, "'onnx-gpu': use one of onnx-cpu, onnx-cuda, tensorrt"),
        ({"target": "onnx-cpu,onnx-cpu"}, "names a target twice"),
        ({"target": "onnx-cpu,tensorrt", "quantize": "int8"}, "export a bundle for each"),
    ],
)
def test_targets_that_do_not_go_together_are_named(
    options: dict[str, str], message: str, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        export(checkpoint, tmp_path / "b", **RANKER, **options)


def test_a_manifest_with_half_a_target_is_refused(mixed: Bundle) -> None:
    graphs = [
        graph for graph in mixed.manifest.graphs if (graph.target, graph.role) != ("onnx-cuda", "score")
    ]
    with pytest.raises(BundleError, match=r"once each for a target; here \['prefix'\]"):
        check_manifest(mixed.manifest.model_copy(update={"graphs": graphs}), rules_of())
    alone = mixed.manifest.model_copy(update={"graphs": graphs[:2]})
    with pytest.raises(BundleError, match="target_parity: 'onnx-cuda' is not among"):
        check_manifest(alone, rules_of())
