"""How the GPU machine is set up: this checkout has metadata there, and the modules that it looks for exist."""

import subprocess
import sys
from pathlib import Path

from rankport.protos.packages import VERSION

ROOT = Path(__file__).parents[2]


def test_the_checkout_has_the_metadata_of_an_installation(tmp_path: Path) -> None:
    script = "\n".join(
        [
            f'python3() {{ {sys.executable} "$@"; }}',
            ". benchmarks/gpu/setup.sh",
            "python3 -c 'from importlib.metadata import version; print(version(\"rankport\"))'",
            "ls $GPU_WORK/site",
        ]
    )
    environment = {"GPU_WORK": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    assert lines[-2:] == [VERSION, f"rankport-{VERSION}.dist-info"]
    # The packages and modules that the benchmark needs.
    assert any(line.startswith("setup: onnxruntime") for line in lines), done.stderr
