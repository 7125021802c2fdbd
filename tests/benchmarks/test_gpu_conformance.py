"""The device tests as a part of the session: what they said by then is kept where they are stopped."""

from benchmarks.gpu.checks.conformance import told

SAID = """
tests/a.py::test_one[two graphs-full_sequence] PASSED [  2%]
tests/a.py::test_two SKIPPED (no NVIDIA GPU, or no onnxruntime-gpu) [  4%]
tests/b.py::test_three FAILED [  6%]
tests/b.py::test_four[x] ERROR [  8%]
tests/b.py::test_five
"""


def test_outcomes_are_read_off_what_pytest_said_before_it_was_stopped() -> None:
    failed = ["tests/b.py::test_three", "tests/b.py::test_four[x]"]
    assert told(SAID) == {"passed": 1, "failed": failed, "skipped": 1}
    assert told("") == {"passed": 0, "failed": [], "skipped": 0}
