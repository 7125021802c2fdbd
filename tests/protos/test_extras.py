"""A module that is not installed is named with what needs it and the extra that brings it."""

import tomllib
from pathlib import Path

import pytest

from rankport.protos.errors import MissingExtra, RankportError
from rankport.protos.extras import extras_named

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("torch.nn", "export"),
        ("onnxruntime", "runtime"),
        ("pyarrow", "parquet"),
        ("pandas", "tables"),
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


def test_any_other_module_is_a_bug_and_stays_one() -> None:
    with pytest.raises(ModuleNotFoundError) as raised, extras_named("reading x"):
        import rankport.protos.nothing  # type: ignore[import-not-found]  # noqa: F401
    assert not isinstance(raised.value, MissingExtra)
