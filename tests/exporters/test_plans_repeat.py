"""The bytes of a plan from process to process: the same, or but for how TensorRT-RTX numbers the symbols of shapes."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from rankport.runtime.bundle.bundle import Bundle
from support.cli import built
from support.effort import full_effort

pytest.importorskip(
    "tensorrt_rtx", reason="tensorrt-rtx is not installed: pip install tensorrt-rtx", exc_type=ImportError
)

BUILD = ("--target", "tensorrt-rtx:sm89", "--max-batch-tokens", 64, "--max-prefixes", 1)


def _built_twice(bundle: Bundle, folder: Path) -> list[tuple[Path, Path]]:
    """The plans of every graph, from two processes that know nothing of each other."""
    first, second = (Path(shutil.copytree(bundle.path, folder / name)) for name in ("first", "second"))
    ours, theirs = (built(root, *BUILD, process=True) for root in (first, second))
    assert [plan["key"] for plan in ours] == [plan["key"] for plan in theirs]
    places = [Path(plan["path"]) / "plan.bin" for plan in ours]
    return [(first / place, second / place) for place in places]


@full_effort
def test_the_plan_of_an_encoder_is_the_same_from_every_process(
    encoder_bundle: Bundle, tmp_path: Path
) -> None:
    ((ours, theirs),) = _built_twice(encoder_bundle, tmp_path)
    assert ours.read_bytes() == theirs.read_bytes()


@full_effort
def test_plans_of_a_ranker_are_as_large_and_differ_in_less_than_a_thousandth(
    mix_bundle: Bundle, tmp_path: Path
) -> None:
    """Its inputs have different axes, whose symbols are numbered by where they lie in memory: see docs/gpu.md."""
    pairs = _built_twice(mix_bundle, tmp_path)
    assert len(pairs) == 2
    for files in pairs:
        ours, theirs = (np.fromfile(file, np.uint8) for file in files)
        assert ours.size == theirs.size
        assert np.count_nonzero(ours != theirs) < ours.size / 1000
