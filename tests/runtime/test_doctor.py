"""`doctor`: what it says of machines of every kind, with packages missing or broken, and never a traceback."""

import json
import subprocess
import sys
from collections.abc import Container
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rankport.protos.installed.extras import CUDA_INSTALL
from rankport.runtime.backends.devices.cuda import gpus
from rankport.runtime.backends.devices.cuda.gpus import Gpu
from rankport.runtime.doctor import PACKAGES, Diagnosis, Machine, diagnose

ALL = {name for names, _ in PACKAGES for name in names}
H200 = Gpu("NVIDIA H200", "sm90", 139 * 2**30)
RTX_4090 = Gpu("NVIDIA GeForce RTX 4090", "sm89", 24 * 2**30)


class PlayedMachine(Machine):
    """A machine with these packages missing, modules broken and GPUs."""

    def __init__(
        self,
        missing: Container[str] = (),
        broken: Container[str] = (),
        here: tuple[Gpu, ...] = (),
        cuda: bool = False,
        libraries: str = "",
        architectures: str = "NONE CURRENT SM75 SM80 SM86 SM89 SM120 SM121",
    ) -> None:
        self._architectures = architectures
        self._missing, self._broken, self._here, self._cuda = missing, broken, here, cuda
        self._libraries = libraries

    def version(self, package: str) -> str | None:
        return None if package in self._missing or package not in ALL else "1.0"

    def evaluate(self, module: str, expression: str = "") -> tuple[str, str]:
        if module in self._broken:
            return "", f"{module} does not load: libcuda.so.1: cannot open shared object file"
        if module.replace("_", "-") in self._missing:
            return "", f"{module} is not installed"
        if "preload" in expression:
            return self._libraries, ""
        if "ComputeCapability" in expression:
            return (self._architectures, "") if module == "tensorrt_rtx" else ("", f"{module} does not load")
        providers = ["CUDAExecutionProvider"] * self._cuda + ["CPUExecutionProvider"]
        return json.dumps(providers) if expression else "", ""

    def gpus(self) -> tuple[Gpu, ...]:
        return self._here

    def no_gpu(self) -> str:
        return "no NVIDIA GPU here"


def diagnosed(**how: Any) -> Diagnosis:
    return diagnose(PlayedMachine(**how))


def verdicts(found: Diagnosis) -> dict[str, tuple[str, str]]:
    return {target.name: (target.build_problem, target.run_problem) for target in found.targets}


def installs(found: Diagnosis) -> dict[str, str]:
    return {target.name: target.install for target in found.targets if target.install}


def test_a_machine_without_a_gpu_builds_for_rtx_and_runs_on_the_cpu() -> None:
    found = diagnosed()
    assert verdicts(found) == {
        "onnx-cpu": ("", ""),
        "onnx-cuda": ("", "no NVIDIA GPU here"),
        "tensorrt": ("it builds for the GPU at hand alone: no NVIDIA GPU here", "no NVIDIA GPU here"),
        "tensorrt-rtx": ("", "no NVIDIA GPU here"),
    }
    assert installs(found) == {}


def test_a_machine_with_everything_does_everything_that_its_gpu_can() -> None:
    data_centre = verdicts(diagnosed(here=(H200,), cuda=True))
    assert data_centre["tensorrt"] == data_centre["onnx-cuda"] == ("", "")
    assert data_centre["tensorrt-rtx"] == (
        "",
        "it runs on sm75, sm80, sm86, sm89, sm120, sm121; here is sm90",
    )
    assert set(verdicts(diagnosed(here=(RTX_4090,), cuda=True)).values()) == {("", "")}


def test_an_older_tensorrt_rtx_runs_on_the_gpus_that_it_names_alone() -> None:
    newer = Gpu("NVIDIA GB10", "sm121", 119 * 2**30)
    assert verdicts(diagnosed(here=(newer,), cuda=True))["tensorrt-rtx"] == ("", "")
    older = diagnosed(here=(newer,), cuda=True, architectures="NONE CURRENT SM75 SM80 SM86 SM89 SM120")
    assert verdicts(older)["tensorrt-rtx"] == ("", "it runs on sm75, sm80, sm86, sm89, sm120; here is sm121")


def test_what_is_missing_comes_with_the_command_that_installs_it() -> None:
    found = diagnosed(
        missing={
            "torch",
            "lmdb",
            "tensorrt",
            "tensorrt-cu13",
            "tensorrt-rtx",
            "cuda-bindings",
            "cuda-python",
        },
        here=(RTX_4090,),
    )
    assert verdicts(found)["onnx-cpu"] == ("torch, lmdb not installed", "lmdb not installed")
    assert verdicts(found)["tensorrt-rtx"] == ("tensorrt_rtx is not installed",) * 2
    assert installs(found) == {
        "onnx-cpu": "pip install 'rankport[export]'",
        "onnx-cuda": CUDA_INSTALL,
        "tensorrt": "pip install 'rankport[tensorrt]'",
        "tensorrt-rtx": "pip install 'rankport[tensorrt-rtx]'",
    }


def test_a_cpu_build_of_onnxruntime_is_told_apart_on_a_gpu_diagnosed() -> None:
    found = diagnosed(here=(H200,))
    assert verdicts(found)["onnx-cuda"] == ("", "onnxruntime here has no CUDAExecutionProvider")
    assert installs(found)["onnx-cuda"] == CUDA_INSTALL
    # Both bring one folder, and each takes it along: what is left of the other must be gone before it comes again.
    assert CUDA_INSTALL == "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'rankport[cuda]'"


@pytest.mark.parametrize(("here", "then"), [((), ""), ((H200,), f" && {CUDA_INSTALL}")])
def test_what_exports_brings_an_onnxruntime_without_cuda_so_that_comes_last(
    here: tuple[Gpu, ...], then: str
) -> None:
    found = diagnosed(missing={"torch"}, here=here, cuda=True)
    assert installs(found)["onnx-cuda"] == f"pip install 'rankport[export]'{then}"


@pytest.mark.parametrize(
    ("visible", "words"),
    [(None, ""), ("", ", CUDA_VISIBLE_DEVICES is ''"), ("-1", ", CUDA_VISIBLE_DEVICES is '-1'")],
)
def test_a_gpu_that_cuda_does_not_show_is_told_with_cudas_reason(
    visible: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(command: tuple[str, ...], **_: object) -> SimpleNamespace:
        text = (
            "550.54\n" if "driver" in command[1] else "GPU 0: NVIDIA H200 (UUID: GPU-1)\nGPU 1: NVIDIA H200\n"
        )
        return SimpleNamespace(returncode=0, stdout=text)

    cuda = SimpleNamespace(
        cudaGetDeviceCount=lambda: (802, None),
        cudaGetErrorString=lambda error: (0, b"system not yet initialized"),
    )
    monkeypatch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(runtime=cuda))
    monkeypatch.setattr(subprocess, "run", answer)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(gpus, "find_driver", lambda: "550.54")
    assert gpus.list_gpus() == ()
    assert gpus.no_gpu_reason() == (
        f"CUDA shows no GPU here (driver 550.54, nvidia-smi shows 2{words}): system not yet initialized"
    )


def test_a_machine_without_a_driver_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(subprocess, "run", absent)
    monkeypatch.setattr(gpus, "find_driver", lambda: None)
    assert gpus.no_gpu_reason() == "no NVIDIA GPU here"


def test_a_gpu_that_cuda_has_no_kernels_for_is_told() -> None:
    volta = Gpu("Tesla V100", "sm70", 16 * 2**30)
    told = "CUDA 13 runs on sm75 and later; here is sm70"
    assert verdicts(diagnosed(here=(volta,), cuda=True))["onnx-cuda"] == ("", told)
    assert verdicts(diagnosed(here=(volta, RTX_4090), cuda=True))["onnx-cuda"] == ("", "")


def test_a_library_of_cuda_that_is_not_there_is_told() -> None:
    told = "Failed to load libcurand.so.10: no such file"
    lacks = {"cuda": True, "libraries": f"{told}\nPlease follow https://onnxruntime.ai"}
    found = diagnosed(here=(H200,), **lacks)
    assert verdicts(found)["onnx-cuda"] == ("", told)
    assert installs(found)["onnx-cuda"] == CUDA_INSTALL
    assert verdicts(diagnosed(**lacks))["onnx-cuda"] == ("", "no NVIDIA GPU here")


def test_a_module_that_does_not_load_is_a_line_and_not_a_crash() -> None:
    found = diagnosed(broken={"onnxruntime", "tensorrt"}, here=(H200,))
    assert "libcuda.so.1" in verdicts(found)["onnx-cpu"][1]
    assert "libcuda.so.1" in verdicts(found)["tensorrt"][0]
    assert found.onnxruntime_providers == ()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise ImportError('libx.so: no such file')", "libx.so: no such file"),
        ("import os; os._exit(139)", "exit code 139"),
        ("import nowhere", "nowhere"),
    ],
)
def test_a_library_is_tried_in_a_process_of_its_own(
    body: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fragile.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    output, problem = Machine().evaluate("fragile", "1")
    assert output == ""
    assert words in problem
    assert Machine().evaluate("absent_module", "1") == ("", "absent_module is not installed")
    assert Machine().evaluate("json", "module.dumps(1)") == ("1", "")


def test_the_command_works_on_a_bare_install() -> None:
    bare = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] in {'onnxruntime', 'torch', 'lmdb', 'cuda', 'tensorrt_rtx'}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "sys.argv = ['rankport', 'doctor', '--json', '-']\n"
        "from rankport.sdk.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", bare], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found = json.loads(done.stdout)
    assert [target["name"] for target in found["targets"]] == [
        "onnx-cpu",
        "onnx-cuda",
        "tensorrt",
        "tensorrt-rtx",
    ]
    assert "Targets" in done.stderr


def test_gpus_are_read_from_nvidia_smi_where_cuda_bindings_are_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(command: tuple[str, ...], **_: object) -> SimpleNamespace:
        query = command[1]
        text = "NVIDIA H200, 9.0, 143771\nNVIDIA RTX A6000, 8.6, 49140\nbroken line\n"
        return SimpleNamespace(returncode=0, stdout="570.86\n" if "driver" in query else text)

    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    monkeypatch.setattr(subprocess, "run", answer)
    assert [(gpu.name, gpu.architecture) for gpu in gpus.list_gpus()] == [
        ("NVIDIA H200", "sm90"),
        ("NVIDIA RTX A6000", "sm86"),
    ]
    assert gpus.find_driver(Path("/nowhere")) == "570.86"
    assert gpus.find_cuda_of_driver() is None


def test_the_drivers_version_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "version"
    file.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC 13.2.0\n"
    )
    assert gpus.find_driver(file) == "580.65.06"
