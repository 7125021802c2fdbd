"""Tests of exporters keep their traces: one that is about tracing itself opens `traces.anew()`."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def kept(traces: object) -> None:
    """Keeps them, whether a test asks or not."""
