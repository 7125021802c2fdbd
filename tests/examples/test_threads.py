"""Threads of the examples: those of torch sleep while they wait, unless their user says otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# What torch computes with tells its settings as it is loaded, in a tenth of the time that torch takes. Which policy it
# has it tells by how often a thread looks before it sleeps: 300,000 times where nobody said a policy.
CODE = """
import examples.heap
import ctypes, importlib.util, pathlib
(library,) = pathlib.Path(importlib.util.find_spec("torch").origin).with_name("lib").glob("libgomp*")
ctypes.CDLL(str(library))
"""


@pytest.mark.parametrize(
    ("given", "policy", "looks"),
    [({}, "PASSIVE", 0), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE", 30_000_000_000)],
)
def test_an_example_has_its_threads_told_before_torch_is_loaded(
    given: dict[str, str], policy: str, looks: int
) -> None:
    kept = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    ended = subprocess.run(
        [sys.executable, "-c", CODE],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**kept, **given, "OMP_DISPLAY_ENV": "verbose"},
    )
    assert f"OMP_WAIT_POLICY = '{policy}'" in ended.stderr
    assert f"GOMP_SPINCOUNT = '{looks}'" in ended.stderr
