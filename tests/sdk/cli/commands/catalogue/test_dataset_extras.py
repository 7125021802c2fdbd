"""Commands that make a dataset name the extra that brings all of what it takes, where pyarrow is not installed."""

import sys
from pathlib import Path

import pytest

from rankport.runtime.store.opening import open_store
from support.cli import rankport
from support.token_samples import ENCODER, SPEC, entry

PACKAGE = "rankport.runtime.jobs.datasets"


@pytest.fixture
def without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rankport.sdk.datasets", f"{PACKAGE}.part_maker", f"{PACKAGE}.formats", f"{PACKAGE}.target"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)


@pytest.mark.usefixtures("without_pyarrow")
@pytest.mark.parametrize(
    ("folder", "options", "extra"),
    [
        ("x", (), "parquet"),
        ("x.arrow", (), "parquet"),
        ("x.lance", (), "lance"),
        ("x", ("--dataset-format", "lance"), "lance"),
        ("x", ("--engine", "ray"), "ray"),
    ],
)
def test_encode_names_the_extra(tmp_path: Path, folder: str, options: tuple[str, ...], extra: str) -> None:
    items = tmp_path / "items.csv"
    items.write_text("id,text\n1,nurse\n", encoding="utf-8")
    done = rankport(
        *("encode", "--bundle", tmp_path, "--items", items, "--dataset", tmp_path / folder, *options)
    )
    told = f'--dataset needs pyarrow, which is not installed: pip install "rankport[{extra}]"\n'
    assert (done.returncode, done.stderr) == (1, f"rankport: MissingExtra: {told}")


@pytest.mark.usefixtures("without_pyarrow")
@pytest.mark.parametrize(("folder", "extra"), [("x.parquet", "parquet"), ("x.lance", "lance")])
def test_a_copy_names_the_extra(tmp_path: Path, folder: str, extra: str) -> None:
    with open_store(tmp_path / "tokens", create=True) as store:
        store.namespace(ENCODER, SPEC, create=True).put_many([entry("a", 1)])
    done = rankport("store", "copy", tmp_path / "tokens", tmp_path / folder)
    assert done.returncode == 1
    assert done.stderr.endswith(f'needs pyarrow, which is not installed: pip install "rankport[{extra}]"\n')
