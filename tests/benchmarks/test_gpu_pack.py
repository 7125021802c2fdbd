"""Calls to the GPU machine: slices fit beside what travels in each."""

from pathlib import Path

import pytest

from benchmarks.gpu.pack import calls_ahead, calls_of

SLICES = {Path(str(number)): 7 for number in range(8)}


def test_the_session_has_what_fits_beside_it_and_as_few_calls_as_may_be_go_ahead() -> None:
    session, ahead = calls_of(SLICES, 22, 36)
    assert (len(session), len(ahead)) == (3, 5)
    assert {*session, *ahead} == SLICES.keys()
    assert calls_of(SLICES, 56, 36) == [list(SLICES)]
    assert [len(call) for call in calls_of(SLICES, 0, 36)] == [0, 5, 3]
    assert calls_of({}, 0, 36) == [[]]


def test_a_slice_that_fits_into_no_call_is_named() -> None:
    with pytest.raises(SystemExit, match="big: 37 bytes are more than the 36 that a call has room for"):
        calls_of({Path("big"): 37}, 22, 36)


def test_folders_of_a_name_and_a_number_alone_are_of_an_earlier_packing(tmp_path: Path) -> None:
    for name in ("pack", "pack-1", "pack-12", "pack-of-mine", "pack-01", "other-1"):
        (tmp_path / name).mkdir()
    assert [path.name for path in calls_ahead(tmp_path / "pack")] == ["pack-1", "pack-12"]
