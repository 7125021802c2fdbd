"""`staging_folder`: what a killed process left is removed, what a living one has is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rankport.exporters.graphs.bundle_writer import BundleStaging, write_bundle
from rankport.exporters.graphs.staging_folder import sibling
from rankport.protos.errors import InvalidRequest
from support.bundle_samples import RANKER_FILES, ranker_draft

_STAGE = """
import sys
from rankport.exporters.graphs.bundle_writer import BundleStaging
staging = BundleStaging(sys.argv[1])
staging.add("weights.bin", b"123")
print(staging.path.name, flush=True)
sys.stdin.read()
"""


def stage(out: Path) -> tuple["subprocess.Popen[str]", str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _STAGE, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def names_in(directory: Path) -> set[str]:
    return set(os.listdir(directory))


def test_what_a_killed_process_left_is_removed_once_it_is_dead(tmp_path: Path) -> None:
    process, name = stage(tmp_path / "out")
    with process:
        with BundleStaging(tmp_path / "out", overwrite=True) as staging:
            assert names_in(tmp_path) == {name, staging.path.name}
        assert names_in(tmp_path) == {name}
        process.kill()
    assert names_in(tmp_path / name) == {"weights.bin"}
    write_bundle(tmp_path / "out", ranker_draft(), RANKER_FILES)
    assert names_in(tmp_path) == {"out"}


def test_a_second_writer_of_one_place_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    process, name = stage(tmp_path / "out")
    with process:
        with pytest.raises(InvalidRequest, match=rf"process {process.pid} is writing a bundle .*in {name}"):
            BundleStaging(tmp_path / "out")
        assert names_in(tmp_path) == {name}
        with BundleStaging(tmp_path / "elsewhere"):
            pass
        process.kill()
    with (
        BundleStaging(tmp_path / "out"),
        pytest.raises(InvalidRequest, match=f"process {os.getpid()} is writing"),
    ):
        BundleStaging(tmp_path / "out")  # of another thread, say


def test_an_old_bundle_that_a_killed_process_had_put_aside_goes_with_the_next_one(tmp_path: Path) -> None:
    write_bundle(tmp_path / "out", ranker_draft(), RANKER_FILES).path.rename(sibling(tmp_path / "out", "old"))
    with BundleStaging(tmp_path / "out"):
        assert len(names_in(tmp_path)) == 2  # the only whole one, so far
    write_bundle(tmp_path / "out", ranker_draft(), RANKER_FILES)
    assert names_in(tmp_path) == {"out"}


def test_folders_of_other_places_and_other_machines_are_left_alone(tmp_path: Path) -> None:
    mine = sibling(tmp_path / "out", "staging").name
    others = {
        mine.replace(".out.", ".out2."),
        mine.replace("staging", "stages"),
        ".out.staging-00000000-0123456789ab",
        f"{mine}x",
    }
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / mine).symlink_to(tmp_path / f"{mine}x")
    write_bundle(tmp_path / "out", ranker_draft(), RANKER_FILES)
    assert names_in(tmp_path) == {*others, mine, "out"}
