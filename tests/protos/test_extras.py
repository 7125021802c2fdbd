"""A module that is not installed is named with what needs it and the extra that brings it."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from rankport.protos.errors import MissingExtra, RankportError
from rankport.protos.extras import extras_named

ROOT = Path(__file__).parents[2]
PYPROJECT = ROOT / "pyproject.toml"
WITH_THE_CLIENT = {"grpc", "google", "numpy"}


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("torch.nn", "export"),
        ("onnxruntime", "runtime"),
        ("pyarrow", "parquet"),
        ("pandas", "tables"),
        ("ray.data", "ray"),
        ("lance", "lance"),
        ("fsspec", "remote"),
        ("sentence_transformers", "sentence-transformers"),
        ("cuda.bindings", "cuda"),
        ("tensorrt_rtx", "tensorrt-rtx"),
    ],
)
def test_a_module_of_an_extra(module: str, extra: str) -> None:
    with pytest.raises(MissingExtra) as raised, extras_named("reading x"):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    name = module.split(".")[0]
    assert str(raised.value) == (
        f'reading x needs {name}, which is not installed: pip install "rankport[{extra}]"'
    )
    assert isinstance(raised.value, RankportError)
    assert isinstance(raised.value, ImportError)
    assert raised.value.name == name
    assert extra in tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def imported_modules() -> Iterator[str]:
    for root in ("protos", "runtime", "exporters", "sdk"):
        for file in (ROOT / root / "rankport").rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    yield from (alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    yield node.module


OPTIONAL_MODULES = (
    {module.split(".")[0] for module in imported_modules()}
    - sys.stdlib_module_names
    - WITH_THE_CLIENT
    - {"rankport"}
)


@pytest.mark.parametrize("module", sorted(OPTIONAL_MODULES))
def test_every_module_that_the_sources_import_has_an_extra(module: str) -> None:
    with pytest.raises(MissingExtra, match=r"pip install"), extras_named("reading x"):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def test_any_other_module_is_a_bug_and_stays_one() -> None:
    with pytest.raises(ModuleNotFoundError) as raised, extras_named("reading x"):
        import rankport.protos.nothing  # type: ignore[import-not-found]  # noqa: F401
    assert not isinstance(raised.value, MissingExtra)
