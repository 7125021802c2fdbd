"""A module that is not installed is named with what needs it and the extra that brings it."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from rankport.protos.errors import MissingExtra, RankportError
from rankport.protos.installed.extras import extras_named

ROOT = Path(__file__).parents[3]
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


def imported_modules() -> set[str]:
    """The packages that a line of the sources imports, wherever it stands."""
    lines = re.compile(
        r"^ *(?:import (\w+)[\w.]*(?: as \w+)?(?: *#.*)?$|from (\w+)[\w.]* import )", re.MULTILINE
    )
    files = [
        file
        for root in ("protos", "runtime", "exporters", "sdk")
        for file in (ROOT / root / "rankport").rglob("*.py")
    ]
    return {
        name
        for file in files
        for pair in lines.findall(file.read_text(encoding="utf-8"))
        for name in pair
        if name
    }


def brings(module: str) -> str:
    """Finds what the message says that brings a module, or nothing."""
    try:
        with extras_named("reading x"):
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    except MissingExtra as error:
        return str(error)
    except ModuleNotFoundError:
        return ""


def test_every_module_that_the_sources_import_has_an_extra() -> None:
    optional = imported_modules() - sys.stdlib_module_names - WITH_THE_CLIENT - {"rankport"}
    assert {"torch", "onnxruntime", "lmdb", "typer"} <= optional
    assert [module for module in sorted(optional) if "pip install" not in brings(module)] == []


def test_any_other_module_is_a_bug_and_stays_one() -> None:
    with pytest.raises(ModuleNotFoundError) as raised, extras_named("reading x"):
        import rankport.protos.nothing  # type: ignore[import-not-found]  # noqa: F401
    assert not isinstance(raised.value, MissingExtra)
