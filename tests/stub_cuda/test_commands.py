"""Commands on ONNX Runtime's own CUDA provider: what they say where a device computes, and every number is wrong."""

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.gpu.without_gpu import stub
from rankport.runtime.bundle.bundle import Bundle
from support.cli import rankport
from support.servers.serving import RANKPORT

pytestmark = [pytest.mark.stub_cuda, pytest.mark.usefixtures("traces")]


def test_doctor_sees_the_device_and_that_bundles_run() -> None:
    done = rankport("doctor", "--json", "-")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [gpu["name"] for gpu in told["gpus"]] == ["stub of an H200"]
    (cuda,) = [target for target in told["targets"] if target["name"] == "onnx-cuda"]
    assert (cuda["build_problem"], cuda["run_problem"], cuda["install"]) == ("", "", "")


def test_a_self_test_tells_wrong_numbers(tmp_path: Path) -> None:
    done = rankport("doctor", "--self-test", "--device", "cuda", "--json", tmp_path / "report.json")
    assert done.returncode == 1, done.stderr
    (line,) = json.loads((tmp_path / "report.json").read_text())["self_test"]
    assert (line["step"], line["verdict"], line["gpu"]) == (
        "onnxruntime cuda",
        "wrong",
        "stub of an H200 (sm90)",
    )
    assert line["largest_difference"] > line["limit"]
    assert "wrong" in done.stdout


def test_verify_tells_wrong_numbers(ranker_on_cuda: Bundle, ranker_checkpoint: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    source = ["--checkpoint", ranker_checkpoint, "--json", report]
    done = rankport("verify", ranker_on_cuda.path, *source, "--device", "cuda")
    assert done.returncode == 1
    assert json.loads(report.read_text())["failures"]
    assert "prefix_reuse/text: max abs error" in done.stderr


def test_a_device_with_too_little_memory_is_one_line(ranker_on_cuda: Bundle) -> None:
    command = [*RANKPORT, "serve", str(ranker_on_cuda.path), "--device", "cuda", "--port", "0"]
    env = stub.environment(fail=f"cudaMalloc:{stub.OUT_OF_MEMORY}:0")
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=240)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("rankport: ")]
    assert line.startswith(
        "rankport: BackendError: ONNX Runtime cannot load prefix.onnx on CUDA: the GPU has no memory left: lower "
        "--prefix-cache-bytes, or serve less on it (Failed to allocate memory for requested buffer of size "
    )
