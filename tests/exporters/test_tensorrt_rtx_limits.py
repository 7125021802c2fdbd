"""What TensorRT-RTX cannot do, and `rankport build` therefore refuses: each reason is tried, for the day it changes."""

from pathlib import Path

import pytest

from rankport.protos.errors import BundleError
from rankport.runtime.backends.devices.cuda.gpus import list_gpus
from rankport.runtime.backends.tensorrt.build_options import BuildOptions
from rankport.runtime.backends.tensorrt.module import load_tensorrt
from rankport.runtime.backends.tensorrt.network import BuildRequest, compile_graph
from rankport.runtime.backends.tensorrt.profile_limits import ProfileLimits
from rankport.runtime.backends.tensorrt.profiles import profiles_for
from rankport.runtime.bundle.bundle import Bundle
from support.cli import rankport
from support.effort import full_effort

pytest.importorskip(
    "tensorrt_rtx", reason="tensorrt-rtx is not installed: pip install tensorrt-rtx", exc_type=ImportError
)

needs_no_gpu = pytest.mark.skipif(
    bool(list_gpus()), reason="this machine has a GPU: the error is of one without"
)


def plan(bundle: Bundle, **options: object) -> bytes:
    """Builds the plan of an encoder for SM89, by the builder itself."""
    (graph,) = bundle.manifest.graphs
    profiles = profiles_for(graph.inputs, ["encode"], bundle.manifest.axes, ProfileLimits(32))
    chosen = BuildOptions(**options)
    request = BuildRequest(bundle.file(graph.file), graph.inputs, profiles, "sm89", chosen)
    return bytes(compile_graph(load_tensorrt("tensorrt_rtx"), request))


@needs_no_gpu
def test_a_plan_without_weights_needs_a_gpu_whatever_it_is_for(encoder_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"cannot build it: .*CUDA_SUCCESS"):
        plan(encoder_bundle, strip_weights=True)


@full_effort
def test_every_level_of_optimization_makes_the_same_plan(encoder_bundle: Bundle) -> None:
    assert plan(encoder_bundle, optimization_level=0) == plan(encoder_bundle, optimization_level=5)


REFUSED = {
    "--hardware-compatible": "has no hardware-compatible plans: name architectures, --target tensorrt-rtx:sm86",
    "--optimization-level=5": "builds the same plan at every level: leave --optimization-level out",
    "--strip-weights": "strips weights only on a machine with a GPU, and there is none here: leave --strip-weights out",
}


@needs_no_gpu
@pytest.mark.parametrize("option", REFUSED)
def test_each_is_one_line_with_the_reason_and_the_way_out(
    option: str, encoder_bundle: Bundle, tmp_path: Path
) -> None:
    done = rankport("build", encoder_bundle.path, "--target", "tensorrt-rtx:sm89", option)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert REFUSED[option] in line
    assert not (encoder_bundle.path / "plans").exists()
