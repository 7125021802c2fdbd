"""Libraries that ONNX Runtime's CUDA provider is linked to: `rankport[cuda]` brings each but the driver's."""

import re
import subprocess
import tomllib
from pathlib import Path

import onnxruntime
import pytest

PACKAGES = {
    "libcublas": "nvidia-cublas",
    "libcublasLt": "nvidia-cublas",
    "libcudart": "nvidia-cuda-runtime",
    "libcurand": "nvidia-curand",
    "libcufft": "nvidia-cufft",
    "libcudnn": "nvidia-cudnn-cu13",
}
DRIVER = "libcuda"

pytestmark = pytest.mark.stub_cuda


def test_the_extra_brings_what_the_provider_is_linked_to() -> None:
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    brought = {re.split("[>=]", line)[0] for line in extras["optional-dependencies"]["cuda"]}
    provider = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    listed = subprocess.run(["readelf", "-d", provider], capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"NEEDED.*\[(libcu\w+)\.so", listed)) - {DRIVER}
    assert "libcudart" in needed
    assert {library for library in needed if PACKAGES.get(library) not in brought} == set()
