"""Threads of the examples: those of torch sleep while they wait, unless their user says otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("given", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_an_example_has_its_threads_told_before_torch_is_loaded(given: dict[str, str], expected: str) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    ended = subprocess.run(
        [sys.executable, "-c", "import examples.heap, torch"],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**kept, **given, "OMP_DISPLAY_ENV": "true"},
    )
    assert f"OMP_WAIT_POLICY = '{expected}'" in ended.stderr
