"""How hard the tests look: a little in every run, and much longer under `make test-full`."""

import os

FACTOR = int(os.environ.get("RANKPORT_TEST_EFFORT", "1"))


def scale(count: int) -> int:
    """Scales the examples or rounds that a test takes in an ordinary run."""
    return count * FACTOR
