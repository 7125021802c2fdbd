"""A call of the session on a GPU goes on from the report of the one before, and leaves its own at once."""

import argparse
import json
import time
from pathlib import Path

import pytest

from benchmarks.gpu.plan import Planned
from benchmarks.gpu.run import Run

CEILINGS = {"figures": {"fp16_product_tflops": 780.0}, "outcome": "done", "seconds": 9.0, "call": 0}


def given(folder: Path, **values: object) -> argparse.Namespace:
    usual = {
        "out": folder,
        "work": folder,
        "skeletons": folder,
        "commit": "a1",
        "device": "cpu",
        "tiny": True,
        "engine": [],
        "earlier": None,
        "seconds": 60.0,
    }
    return argparse.Namespace(**usual | values)


def started(folder: Path, seconds: float = 60.0, **values: object) -> Run:
    return Run(given(folder, **values), time.monotonic() + seconds)


def report_of(folder: Path) -> dict[str, object]:
    return json.loads((folder / "report.json").read_text())


def test_a_second_call_has_the_parts_of_the_first(tmp_path: Path) -> None:
    first = started(tmp_path)
    first.parts["ceilings mixlm"] = CEILINGS
    first.part(Planned("restore", "mixlm", 1, 2, "fp16"))
    (tmp_path / "second").mkdir()
    second = started(tmp_path / "second", earlier=tmp_path / "report.json")
    assert second.parts["ceilings mixlm"] == CEILINGS
    assert len(report_of(tmp_path / "second")["calls"]) == 2  # type: ignore[arg-type]


def test_a_call_of_another_commit_does_not_go_on(tmp_path: Path) -> None:
    started(tmp_path)
    with pytest.raises(SystemExit, match="its commit is 'a1', this call's 'b2': leave --earlier out"):
        started(tmp_path, commit="b2", earlier=tmp_path / "report.json")


def test_a_first_call_needs_no_earlier_report(tmp_path: Path) -> None:
    assert started(tmp_path, earlier=tmp_path / "none.json").parts == {}


@pytest.mark.parametrize(
    ("seconds", "reason"), [(60.0, "there is no mixlm.fp16.skeleton"), (0.5, "0 s left")]
)
def test_what_cannot_be_run_is_told_in_the_report(seconds: float, reason: str, tmp_path: Path) -> None:
    if seconds < 1:
        (tmp_path / "mixlm.fp16.skeleton").mkdir()
    started(tmp_path, seconds).part(Planned("restore", "mixlm", 1, 2, "fp16"))
    assert report_of(tmp_path)["parts"] == {"restore mixlm fp16": {"skipped": reason}}


def test_a_part_that_breaks_is_told_with_what_broke(tmp_path: Path) -> None:
    (tmp_path / "mixlm.fp16.skeleton").mkdir()
    started(tmp_path).part(Planned("restore", "mixlm", 1, 2, "fp16"))
    part = report_of(tmp_path)["parts"]["restore mixlm fp16"]  # type: ignore[index]
    assert part["outcome"].startswith("FileNotFoundError")
    assert part["call"] == 0
