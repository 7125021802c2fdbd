"""Versions of packages, whatever they are installed as."""

import importlib.metadata
import sys
from types import ModuleType

import pytest

from rankport.protos.installed.packages import VERSION, installed_version


def test_an_installed_package_has_the_version_of_its_metadata() -> None:
    assert installed_version("numpy") == importlib.metadata.version("numpy")
    assert installed_version("sentence-transformers") == importlib.metadata.version("sentence-transformers")
    assert installed_version("nothing-of-that-name") is None


def test_rankport_knows_its_own_without_metadata() -> None:
    assert installed_version("rankport") == VERSION


@pytest.mark.parametrize("distribution", ["onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"])
def test_onnxruntime_is_found_under_each_of_its_names(
    distribution: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name != distribution:
            raise importlib.metadata.PackageNotFoundError(name)
        return "9.9"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert installed_version("onnxruntime") == "9.9"


def test_a_module_without_metadata_says_its_version_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own_copy")
    module.__version__ = "3.1"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_copy", module)
    assert installed_version("own-copy") == "3.1"
