"""Plugin of pytest for an environment that has no `export` extra: what needs it there is skipped, all else must pass.

python -m pytest -p support.without_torch
"""

import re
from collections.abc import Generator
from importlib.util import find_spec

import pytest

_NEEDED = ("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "safetensors", "optimum.commands")
_NEEDED += ("sentence-transformers", "tensorrt_rtx", "cuda", "tritonclient")
if find_spec("torch") is not None:
    raise pytest.UsageError("torch is installed here: run the tests without -p support.without_torch")
_LACKS = re.compile(
    rf"(?:No module named '|No package metadata was found for |this command needs )({'|'.join(_NEEDED)})\b"
)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Leaves out the modules that import what is not here."""
    report = yield
    _skip(report, collector)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Leaves out the tests whose fixtures or bodies import what is not here."""
    report = yield
    _skip(report, item)
    return report


def _skip(report: pytest.CollectReport | pytest.TestReport, node: pytest.Collector | pytest.Item) -> None:
    lacks = _LACKS.search(report.longreprtext) if report.failed else None
    if lacks is not None:
        report.outcome = "skipped"
        report.longrepr = (str(node.path), 0, f"Skipped: needs {lacks[1]}")
