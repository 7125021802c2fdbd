"""How the GPU machine is set up: this checkout has metadata there, and what a session imports is there or travels."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from benchmarks.gpu.pack import INSTALLED, WHEELS
from rankport.protos.installed.packages import VERSION

ROOT = Path(__file__).parents[2]
EXTRAS = ("runtime", "server", "export", "cuda")
LEFT_OUT = {"rankport", "onnxruntime", "onnxruntime-gpu", "starlette", "uvicorn", "optimum", "requests"}
"""Packages of the extras that travel otherwise: the checkout itself, and ONNX Runtime's GPU build in slices; or that no
part imports: none serves HTTP, and each names its kind."""


def test_the_checkout_has_the_metadata_of_an_installation(tmp_path: Path) -> None:
    script = "\n".join(
        [
            f'python3() {{ {sys.executable} "$@"; }}',
            ". benchmarks/gpu/setup.sh",
            "python3 -c 'from importlib.metadata import version; print(version(\"rankport\"))'",
            "ls $GPU_WORK/site",
        ]
    )
    (tmp_path / "pack" / "wheels").mkdir(parents=True)
    environment = {"GPU_WORK": str(tmp_path), "GPU_PACK": str(tmp_path / "pack"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    assert {VERSION, f"rankport-{VERSION}.dist-info"} <= set(lines)
    # The packages and modules that the benchmark needs.
    assert any(line.startswith("setup: onnxruntime") for line in lines), done.stderr
    assert "cannot be imported" not in done.stdout


def test_every_package_that_the_session_imports_is_there_or_travels() -> None:
    """A server that cannot be imported there costs the session."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for name in EXTRAS for line in extras[name])]
    needed = {re.split(r"[\[<>=;, ]", line, maxsplit=1)[0].replace("_", "-") for line in lines}
    travelling = {wheel.partition("==")[0] for wheel in WHEELS}
    assert needed - INSTALLED - travelling - LEFT_OUT == set()
