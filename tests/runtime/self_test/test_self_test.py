"""`doctor --self-test`: what ran is compared, what cannot run says why, and what crashes or hangs is a line."""

import json
import signal
import sys
from pathlib import Path

import pytest

from rankport.protos.errors import InvalidRequest
from rankport.runtime.backends.devices.cuda.gpus import list_gpus
from rankport.runtime.self_test.self_test import (
    Children,
    Line,
    SelfTestDevice,
    has_failed,
    run_self_test,
)
from support.cli import rankport

needs_no_gpu = pytest.mark.skipif(
    bool(list_gpus()), reason="this machine has a GPU: it is said of one without"
)


class PlayedChildren(Children):
    """Children that run a line of Python each, in which `out` is where a result goes."""

    def __init__(self, timeout_s: float = 60.0, **code_of: str) -> None:
        super().__init__(timeout_s)
        self._code_of = {name.replace("_then_", " "): code for name, code in code_of.items()}

    def command(self, step: str, folder: Path, out: Path, allow_unsupported_gpu: bool) -> list[str]:
        code = self._code_of.get(step, 'json.dump({"cannot": "not played"}, open(out, "w"))')
        return [sys.executable, "-c", f"import json, os, signal; out = {str(out)!r}; {code}"]


def found(largest: float | None, limit: float | None = 2e-4) -> str:
    fields = {
        "ran": "it",
        "version": "1",
        "gpu": "g",
        "largest_difference": largest,
        "limit": limit,
        "note": "",
    }
    return f"open(out, 'w').write({json.dumps(fields)!r})"


def played(device: str, **code_of: str) -> dict[str, Line]:
    lines = run_self_test(device, children=PlayedChildren(**code_of))  # type: ignore[arg-type]
    return {line.step: line for line in lines}


def test_a_native_crash_is_a_line_with_its_signal() -> None:
    lines = played("cuda", onnxruntime_then_cuda=f"os.kill(os.getpid(), {int(signal.SIGSEGV)})")
    (line,) = lines.values()
    assert (line.verdict, line.reason) == ("failed", "crashed: SIGSEGV")
    assert has_failed(tuple(lines.values()))


def test_a_step_that_hangs_is_stopped() -> None:
    children = PlayedChildren(0.5, onnxruntime_then_cpu="signal.pause()")
    (line,) = run_self_test("cpu", children=children)
    assert (line.verdict, line.reason) == ("failed", "stopped after 0.5 s")


def test_a_step_that_ends_without_a_result_failed() -> None:
    (line,) = played("cpu", onnxruntime_then_cpu="os._exit(3)").values()
    assert (line.verdict, line.reason) == ("failed", "exit code 3")
    (line,) = played("cpu", onnxruntime_then_cpu="pass").values()
    assert (line.verdict, line.reason) == ("failed", "it left no result")


@pytest.mark.parametrize(
    ("largest", "verdict"), [(1e-5, "right"), (2e-4, "right"), (3e-4, "wrong"), (float("inf"), "wrong")]
)
def test_what_was_compared_is_judged_by_its_limit(largest: float, verdict: str) -> None:
    (line,) = played("cpu", onnxruntime_then_cpu=found(largest)).values()
    assert line.verdict == verdict
    assert has_failed((line,)) == (verdict == "wrong")
    json.dumps(line.largest_difference, allow_nan=False)


def test_plans_are_run_only_where_they_were_built() -> None:
    lines = played("tensorrt", tensorrt_then_build="os.abort()", tensorrt_rtx_then_build=found(None, None))
    assert [(line.step, line.verdict, line.reason) for line in lines.values()] == [
        ("tensorrt build", "failed", "crashed: SIGABRT"),
        ("tensorrt run", "not run", "no plan was built"),
        ("tensorrt_rtx build", "built", ""),
        ("tensorrt_rtx run", "not run", "not played"),
    ]


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="device is 'tpu': must be one of cpu, cuda, tensorrt, all"):
        run_self_test("tpu")  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_device_that_lists_no_gpus_is_not_asked_to_try_one(device: SelfTestDevice) -> None:
    told = f"allow_unsupported_gpu is True with device '{device}': it is of TensorRT's plans"
    with pytest.raises(InvalidRequest, match=told):
        run_self_test(device, allow_unsupported_gpu=True)


@needs_no_gpu
def test_without_a_gpu_the_cpu_is_right_plans_are_built_and_the_rest_says_why() -> None:
    lines = {line.step: line for line in run_self_test()}
    verdicts = {step: line.verdict for step, line in lines.items()}
    assert verdicts.pop("tensorrt_rtx build") in ("built", "not run")  # where it is not installed
    assert verdicts == {
        "onnxruntime cpu": "right",
        "onnxruntime cuda": "not run",
        "tensorrt build": "not run",
        "tensorrt run": "not run",
        "tensorrt_rtx run": "not run",
    }
    assert lines["onnxruntime cuda"].reason == "no NVIDIA GPU here"
    if lines["tensorrt_rtx build"].verdict == "built":
        assert lines["tensorrt_rtx build"].gpu == "sm89"
        assert lines["tensorrt_rtx run"].reason == "no NVIDIA GPU here"


def test_the_command_writes_its_lines_and_exits_with_0(tmp_path: Path) -> None:
    file = tmp_path / "doctor.json"
    done = rankport("doctor", "--self-test", "--device", "cpu", "--json", file)
    assert done.returncode == 0, done.stderr
    (line,) = json.loads(file.read_text())["self_test"]
    assert (line["step"], line["verdict"]) == ("onnxruntime cpu", "right")
    assert "prefill and score, against torch" in done.stdout


@pytest.mark.parametrize("flags", [["--device", "cpu"], ["--allow-unsupported-gpu"]])
def test_flags_of_a_self_test_alone_are_a_usage_error(flags: list[str]) -> None:
    assert rankport("doctor", *flags).returncode == 2


@pytest.mark.gpu
@pytest.mark.skipif(not list_gpus(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_nothing_that_runs_is_wrong() -> None:
    lines = run_self_test(allow_unsupported_gpu=True)
    assert not has_failed(lines), lines
