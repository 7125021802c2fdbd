"""How hard the tests look: a little in every run, and much longer under `make test-full`."""

import os
from collections.abc import Container, Iterable
from typing import Any

import pytest

FACTOR = int(os.environ.get("RANKPORT_TEST_EFFORT", "1"))


def scale(count: int) -> int:
    """Scales the examples or rounds that a test takes in an ordinary run."""
    return count * FACTOR


def every_run(cases: Iterable[str], chosen: Container[str]) -> list[Any]:
    """Marks the cases that are not chosen: more of a kind that each run tests, which full effort tests too."""
    skipped = pytest.mark.skipif(FACTOR == 1, reason="one more of its kind: make test-full")
    return [case if case in chosen else pytest.param(case, marks=skipped) for case in cases]
