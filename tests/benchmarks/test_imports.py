"""Every benchmark finds what it imports: those that need a GPU or hours run too seldom to tell."""

from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in sorted((ROOT / "benchmarks").rglob("*.py"))
]


@pytest.mark.parametrize("module", MODULES)
def test_a_benchmark_can_be_imported(module: str) -> None:
    assert import_module(module).__doc__


def test_no_script_of_a_peer_stands_before_the_package_that_it_imports() -> None:
    """Python looks for imports of a script beside it first."""
    scripts = {file.stem for file in (ROOT / "benchmarks" / "peers").glob("*.py")}
    assert scripts
    assert not scripts & {*packages_distributions(), "onnxruntime_genai", "optimum"}
