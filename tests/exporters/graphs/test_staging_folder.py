"""`staging_folder`: what a killed process left is removed, what a living one has is not."""

import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rankport.exporters.graphs import bundle_writer
from rankport.exporters.graphs.bundle_writer import BundleStaging
from rankport.exporters.graphs.staging_folder import locked_by_another, scratch_folder, sibling
from rankport.protos.errors import InvalidRequest
from support.bundle_samples import RANKER_FILES, ranker_draft
from support.written_bundles import write_bundle

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


def test_what_a_proof_put_beside_a_staged_bundle_goes_with_it(tmp_path: Path) -> None:
    process, name = stage(tmp_path / "out")
    with process:
        process.kill()
    with scratch_folder(tmp_path / name) as folder:
        shutil.copytree(folder, left := sibling(tmp_path / name, "twin"))
        assert left.parent == folder.parent == tmp_path
    with BundleStaging(tmp_path / "out") as staging:
        assert names_in(tmp_path) == {staging.path.name}


def test_a_scratch_folder_is_elsewhere_where_nothing_can_be_written(tmp_path: Path) -> None:
    with scratch_folder(Path("/proc/self/bundle")) as folder:
        (folder / "file").write_bytes(b"1")
    assert not folder.exists()


def test_a_second_writer_of_one_place_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    process, name = stage(tmp_path / "out")
    with process:
        with pytest.raises(InvalidRequest, match=rf"process {process.pid} is writing a bundle .*in {name}"):
            BundleStaging(tmp_path / "out")
        assert names_in(tmp_path) == {name}
        with BundleStaging(tmp_path / ".elsewhere"), BundleStaging(tmp_path / "elsewhere"):
            pass
        process.kill()
    with (
        BundleStaging(tmp_path / "out"),
        pytest.raises(InvalidRequest, match=f"process {os.getpid()} is writing"),
    ):
        BundleStaging(tmp_path / "out")  # of another thread, say


def test_of_two_writers_that_begin_at_once_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither makes its folder before both have looked for another's, if both may look at once."""
    looked, refused, staged = threading.Barrier(2, timeout=0.3), list[str](), list[BundleStaging]()

    def look(*arguments: Any) -> object:
        found = locked_by_another(*arguments)
        with suppress(threading.BrokenBarrierError):
            looked.wait()
        return found

    def begin() -> None:
        try:
            staged.append(BundleStaging(tmp_path / "out"))
        except InvalidRequest as error:
            refused.append(str(error))

    monkeypatch.setattr(bundle_writer, "locked_by_another", look)
    threads = [threading.Thread(target=begin) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(staged), len(refused)) == (1, 1)
    assert f"process {os.getpid()} is writing" in refused[0]
    staged[0].discard()
    assert names_in(tmp_path) == set()


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
