"""Files of a bundle that change under a model: no answer is made of what they have then, and no signal ends it."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rankport.protos.errors import BundleError
from rankport.runtime.backends.mapped_files import MappedFiles
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import FileEntry

CONTENT = b"weights" * 100
ENTRY = FileEntry(path="w.bin", size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "w.bin"
    file.write_bytes(CONTENT)
    return file


@pytest.fixture
def mapped(file: Path) -> Iterator[MappedFiles]:
    files = MappedFiles(file.parent, [ENTRY])
    yield files
    files.close()


def test_what_nobody_changed_is_as_it_was(mapped: MappedFiles) -> None:
    mapped.check_opened()
    assert mapped.changed() == ""


def test_a_file_that_is_cut_or_written_over_is_told(file: Path, mapped: MappedFiles) -> None:
    os.truncate(file, 10)
    told = f"{file} was written over or cut under this process (it has {{}} bytes of 700): put a bundle into its place"
    assert mapped.changed().startswith(told.format(10))
    file.write_bytes(b"W" * len(CONTENT))
    assert mapped.changed().startswith(told.format(700))


def test_the_same_bytes_at_another_time_are_taken(file: Path, mapped: MappedFiles) -> None:
    os.utime(file, (1, 1))
    assert mapped.changed() == ""
    file.write_bytes(CONTENT)
    assert mapped.changed() == ""


def test_another_file_in_its_place_changes_nothing_once_it_is_mapped(file: Path, mapped: MappedFiles) -> None:
    other = file.with_name("other")
    other.write_bytes(b"other")
    other.replace(file)
    assert mapped.changed() == ""
    with pytest.raises(BundleError, match=r"w\.bin was replaced while it was loaded: load it again"):
        mapped.check_opened()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"w\.bin cannot be read: No such file or directory"):
        MappedFiles(tmp_path, [ENTRY])


ENCODES = """
import os, sys
from rankport.protos.errors import Unavailable
from rankport.sdk import ItemEncoder
weights, change = os.path.join(sys.argv[1], "weights.bin"), sys.argv[2]
with ItemEncoder.load(sys.argv[1]) as encoder:
    encoder.encode(["text"])
    if change == "cut":
        os.truncate(weights, 100)
    else:
        with open(weights, "r+b") as file:
            file.write(b"\\xff" * os.path.getsize(weights))
    for _ in range(2):
        try:
            print(encoder.encode(["text"]))
        except Unavailable as error:
            print(error)
    print(encoder.alive)
"""


@pytest.mark.parametrize("change", ["cut", "written over"])
def test_a_model_whose_weights_change_under_it_answers_no_more_and_says_why(
    encoder_bundle: Bundle, tmp_path: Path, change: str
) -> None:
    copy = shutil.copytree(encoder_bundle.path, tmp_path / "copy")
    # In a process of its own: without the check a signal ends it.
    command = [sys.executable, "-c", ENCODES, str(copy), change]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    first, second, alive = done.stdout.splitlines()
    for told in (first, second):
        assert told.startswith(f"the engine stopped: {copy / 'weights.bin'} was written over or cut")
    assert alive == "False"
