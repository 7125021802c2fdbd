"""What ONNX Runtime tells its maker: nothing, unless the owner says so."""

import subprocess
import sys
from pathlib import Path

import pytest

_LOAD = "import {first}; import onnxruntime; print(onnxruntime.__version__)"


def _files_of(first: str, home: Path, **given: str) -> list[Path]:
    """Files that a process leaves in its home folder which imports a module, then ONNX Runtime."""
    subprocess.run(
        [sys.executable, "-c", _LOAD.format(first=first)],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", **given},
        check=True,
        capture_output=True,
    )
    return [file for file in home.rglob("*") if file.is_file()]


@pytest.mark.parametrize(
    "first", ["rankport.runtime.backends.ort.session", "rankport.exporters", "rankport.sdk.cli"]
)
def test_onnxruntime_keeps_and_sends_nothing_of_what_it_does(first: str, tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.mkdir()
    if not _files_of("os", told):
        pytest.skip("this onnxruntime keeps nothing here by itself")
    if first == "rankport.sdk.cli":
        first = "rankport.sdk.cli, rankport.runtime.backends.choice"
    home = tmp_path / "home"
    home.mkdir()
    assert _files_of(first, home) == []
    assert _files_of(first, home, ORT_DISABLE_TELEMETRY="0")  # as the owner says
