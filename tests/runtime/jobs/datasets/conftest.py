"""Environment of jobs on Ray."""

import os
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def found() -> Iterator[None]:
    """Ray's workers find what the tests import, and its nodes have time to start on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_raylet_start_wait_time_s", "180")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        yield
