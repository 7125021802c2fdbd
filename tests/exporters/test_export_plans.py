"""An export that builds plans: what `rankport build` of the same targets makes, or nothing at all."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rankport.protos.errors import BundleError, InvalidRequest
from rankport.runtime.backends.devices.cuda.gpus import list_gpus
from rankport.runtime.backends.tensorrt.plan_files import stored_plans
from rankport.runtime.kinds.table import open_bundle
from rankport.sdk import export
from support import checkpoints
from support.cli import built, rankport
from support.effort import full_effort

pytest.importorskip(
    "tensorrt_rtx", reason="tensorrt-rtx is not installed: pip install tensorrt-rtx", exc_type=ImportError
)

needs_no_gpu = pytest.mark.skipif(
    bool(list_gpus()), reason="this machine has a GPU: the error is of one without"
)
SMALL = {"label_ids": (9, 17), "max_prefix_tokens": 16, "max_item_tokens": 16}
FLAGS = ("--kind", "ranker", "--label-ids", "9,17", "--max-prefix-tokens", 16, "--max-item-tokens", 16)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.causal_lm(tmp_path_factory.mktemp("plans") / "c", "qwen3", num_hidden_layers=1)


@full_effort
def test_plans_are_those_of_build_and_inspect_shows_them(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    done = rankport("export", checkpoint, *FLAGS, "--target", "onnx-cpu,tensorrt-rtx:sm89", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "sm89" in done.stderr
    shown = json.loads(rankport("inspect", out, "--json", "-").stdout)
    assert [graph["target"] for graph in shown["graphs"]] == ["onnx-cpu"] * 2 + ["tensorrt"] * 2
    assert all(plan["fits"] for plan in shown["plans"])
    assert [(plan["key"]["architecture"], plan["key"]["graph"]) for plan in shown["plans"]] == [
        ("sm89", f"{role}.tensorrt.onnx") for role in ("prefix", "score")
    ]
    assert not any(entry["path"].startswith("plans/") for entry in shown["files"])
    again = built(out, "--target", "tensorrt-rtx:sm89")
    assert {plan["state"] for plan in again} == {"there"}
    assert list(tmp_path.iterdir()) == [out]


def test_python_takes_the_same_words_and_plans_leave_the_bundle_as_it_is(
    checkpoint: Path, tmp_path: Path
) -> None:
    bundle = export(checkpoint, tmp_path / "b", kind="ranker", target=("tensorrt-rtx:sm89",), **SMALL)
    plain = export(checkpoint, tmp_path / "plain", kind="ranker", target="tensorrt", **SMALL)
    assert len(stored_plans(bundle)) == 2
    assert open_bundle(bundle.path).manifest.files == plain.manifest.files
    assert bundle.manifest.fingerprint == plain.manifest.fingerprint


@needs_no_gpu
def test_a_machine_that_cannot_build_is_told_so_before_the_checkpoint_is_read(tmp_path: Path) -> None:
    arguments = (*FLAGS, "--target", "tensorrt-rtx:current", "--out", tmp_path / "b")
    done = rankport("export", tmp_path / "no-checkpoint", *arguments)
    assert done.returncode == 2
    assert "InvalidRequest" in done.stderr
    assert "is to build for the GPU at hand, and there is none here" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_plan_that_cannot_be_built_leaves_nothing_behind(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise BundleError("score.onnx: tensorrt_rtx cannot build it")

    monkeypatch.setattr("rankport.runtime.backends.tensorrt.build.compile_graph", refuse)
    with pytest.raises(BundleError, match="cannot build it"):
        export(checkpoint, tmp_path / "b", kind="ranker", target="tensorrt-rtx:sm89", **SMALL)
    assert list(tmp_path.iterdir()) == []


@full_effort
def test_a_terminated_build_ends_at_once_and_leaves_nothing_behind(checkpoint: Path, tmp_path: Path) -> None:
    arguments = ("export", checkpoint, *FLAGS, "--target", "tensorrt-rtx", "--out", tmp_path / "b")
    command = [sys.executable, "-m", "rankport.sdk.cli", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not list(tmp_path.glob(".b.staging-*/plans/*/prefix")):
            assert process.poll() is None
            time.sleep(0.02)
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_word_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="has no architecture 'sm90'"):
        export(tmp_path / "no", tmp_path / "b", kind="ranker", target="onnx-cpu,tensorrt-rtx:sm90")
