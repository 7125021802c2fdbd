"""Command lines of the benchmarks: what is wrong with one is a line, told before anything begins."""

import importlib
import sys
from pathlib import Path

import pytest

WRONG = {
    "benchmarks.catalogue_plan": {
        ("--items", "-5"): "'-5' is no number above 0",
        ("--gpus", "0"): "'0' is no number above 0",
        ("--tokens", "many"): "'many' is no number above 0",
        ("--changed", "nan"): "'nan' is no number from 0 on",
    },
    "benchmarks.gpu.run": {
        ("--out", "out", "--only", "nope"): "no part is called nope: there are build_plans",
        ("--out", "out", "--engine", "foo=1"): "'foo=1' is no knob of the engine: give NAME=VALUE, of device",
        ("--out", "out", "--engine", "device"): "'device' is no knob of the engine",
    },
    "benchmarks.gpu.bundles": {("--model", "nope"): "no model is called nope: there are mixlm, slm"},
    "benchmarks.gpu.pack": {
        ("--skeletons", "none"): "no skeletons in none: make them with python -m benchmarks.gpu.bundles",
        (
            "--skeletons",
            "some",
            "--runtime",
            "some",
        ): "some is no slice of packed libraries: it has no unpack.py",
    },
}
CASES = [(module, line, says) for module, lines in WRONG.items() for line, says in lines.items()]


@pytest.mark.parametrize(("module", "line", "says"), CASES)
def test_what_is_wrong_is_told_before_anything_is_made(
    module: str,
    line: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "some" / "a.skeleton").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [module, *line])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main()
    assert ended.value.code == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["some"]


def test_changes_may_be_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["catalogue_plan", "--items", "1e8", "--changed", "0"])
    importlib.import_module("benchmarks.catalogue_plan").main()
    assert "| changes a second, if nearline | 0 |" in capsys.readouterr().out
