"""How hard the tests look: a little in every run, and much longer under `make test-full`."""

import os
from collections.abc import Container, Iterable
from importlib.util import find_spec
from typing import Any, TypeVar

import pytest

FACTOR = int(os.environ.get("RANKPORT_TEST_EFFORT", "1"))
Case = TypeVar("Case")

full_effort = pytest.mark.skipif(FACTOR == 1, reason="one more of its kind: make test-full")
"""Marks a test or a case whose kind each run has another of."""


def full_effort_with(package: str) -> pytest.MarkDecorator:
    """Marks a test that takes minutes, and a package of `.[demo]`."""
    missing = FACTOR == 1 or find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"minutes: make test-full, and the package {package}")


def scale(count: int) -> int:
    """Scales the examples or rounds that a test takes in an ordinary run."""
    return count * FACTOR


def every_run(cases: Iterable[Case], chosen: Container[Case]) -> list[Any]:
    """Marks the cases that are not chosen: more of a kind that each run tests, which full effort tests too."""
    return [case if case in chosen else pytest.param(case, marks=full_effort) for case in cases]
