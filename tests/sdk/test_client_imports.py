"""A client needs gRPC, protobuf and numpy, and nothing else."""

import subprocess
import sys

import pytest

import rankport.sdk

_HEAVY = (
    "torch",
    "transformers",
    "onnx",
    "onnxruntime",
    "lmdb",
    "pydantic",
    "typer",
    "tokenizers",
    "rankport.runtime",
)


def loaded_after(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "from rankport.sdk import Client, AsyncClient, Key, ScoreResult, RankportError; Client('localhost:1')",
        "import rankport.sdk",
    ],
)
def test_a_client_loads_no_runtime_and_no_framework(statement: str) -> None:
    loaded = loaded_after(statement)
    assert loaded & set(_HEAVY) == set()
    assert not any(name.startswith("rankport.exporters") for name in loaded)


def test_all_names_are_given_with_all_extras_and_those_of_a_client_with_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing: set[str] = set()
    monkeypatch.setattr(
        "rankport.protos.installed.extras.find_spec", lambda module: None if module in missing else object()
    )
    assert rankport.sdk.__all__ == dir(rankport.sdk)
    missing = {"pydantic"}
    without_runtime = set(rankport.sdk.__all__)
    assert {"Client", "AsyncClient", "Key", "ScoreCall", "InvalidRequest", "Tls"} <= without_runtime
    assert not {"Ranker", "Server", "encode", "export", "audit_membership"} & without_runtime
    missing = {"torch"}
    assert set(dir(rankport.sdk)) - set(rankport.sdk.__all__) == {
        *("export", "export_set_ranker", "export_towers"),
        *("verify", "verify_set_ranker", "verify_towers"),
    }


def test_the_probe_sees_what_is_loaded() -> None:
    assert "pydantic" in loaded_after("import rankport.runtime.bundle.manifest")


def test_the_public_names_are_these() -> None:
    assert rankport.sdk.__all__ == sorted(rankport.sdk.__all__)
    assert {"export", "Ranker", "ItemEncoder", "TokenStore", "Client", "AsyncClient", "Key"} <= set(
        dir(rankport.sdk)
    )


@pytest.mark.parametrize("name", rankport.sdk.__all__)
def test_every_public_name_loads(name: str) -> None:
    assert getattr(rankport.sdk, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        rankport.sdk.Nothing  # noqa: B018
