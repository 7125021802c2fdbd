"""Errors of LMDB in words: each is made to happen, in a process of its own where it takes one."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from rankport.runtime.store.lmdb_store.store import LmdbStore
from support.token_samples import ENCODER, SPEC, entry

READ = """
import os, sys
from rankport.protos.errors import StoreError
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.lmdb_store.store import LmdbStore
{before}
sys.stdin.readline()
try:
    with LmdbStore.open(sys.argv[1], read_only=True, frozen="frozen" in sys.argv) as store:
        print("read", len(store.namespace(store.fingerprints().popitem()[0])))
except StoreError as error:
    print(error)
"""

WRITE = """
import sys
import numpy as np
from rankport.protos.errors import StoreError
from rankport.runtime.store.contract import TokenEntry, TokenStore
from rankport.runtime.store.lmdb_store.store import LmdbStore
from rankport.runtime.store.token_spec import TokenSpec
{before}
with LmdbStore.open(sys.argv[1], create=True) as store:
    namespace = store.namespace("e", TokenSpec(1, 512, "float32"), create=True)
    try:
        for batch in range(100):
            keys = [f"{{batch:03}}-{{number:03}}" for number in range(100)]
            tokens = np.full((1, 512), batch, np.float32)
            namespace.put_many([TokenEntry(key, tokens, bytes(16)) for key in keys])
    except StoreError as error:
        print(error)
    keys = list(namespace.keys())
    print(len(keys) == len(namespace) == 100 * batch > 0, bool((namespace.read(keys[-1:]).tokens == batch - 1).all()))
"""


def started(code: str, path: Path, *options: str, before: str = "") -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code.format(before=before), str(path), *options]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def output_of(process: "subprocess.Popen[str]") -> str:
    told, _ = process.communicate("\n", timeout=60)
    assert process.returncode == 0
    return told


@pytest.fixture
def made(path: Path) -> Path:
    with LmdbStore.open(path, create=True) as store:
        store.namespace(ENCODER, SPEC, create=True).put_many([entry("a", 1)])
    return path


@pytest.mark.parametrize("frozen", [True, False])
def test_reader_of_the_same_number_in_another_container_is_named(made: Path, frozen: bool) -> None:
    process = started(READ, made, "frozen" if frozen else "")
    with (made / "lock.mdb").open("r+b") as lock:
        # What a reader of that number holds: LMDB locks the byte of its own.
        fcntl.lockf(lock, fcntl.LOCK_EX, 1, process.pid)
        told = output_of(process)
    if frozen:
        assert told == "read 1\n"
    else:
        assert (
            f"a process of the same number as this one, {process.pid}, reads it in another container" in told
        )
        assert "--frozen" in told


def test_writer_of_the_same_number_as_a_reader_in_another_container_is_named(made: Path) -> None:
    process = started(WRITE, made, before="sys.stdin.readline()")
    with (made / "lock.mdb").open("r+b") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX, 1, process.pid)
        _, errors = process.communicate("\n", timeout=60)
    assert f"a process of the same number as this one, {process.pid}" in errors
    assert "write to a store of its own, and rename that" in errors


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("frozen", [True, False])
def test_reader_without_permission_to_write_the_lock_is_told_what_to_do(made: Path, frozen: bool) -> None:
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(shutil.copytree(made, Path(folder, "tokens")))
        (path / "lock.mdb").chmod(0o644)
        told = output_of(started(READ, path, "frozen" if frozen else "", before="os.setuid(65534)"))
    if frozen:
        assert told == "read 1\n"
    else:
        assert f"give it permission to write {path / 'lock.mdb'}" in told
        assert "--frozen" in told


def test_write_past_a_limit_of_file_size_keeps_what_was_stored_and_says_so(path: Path) -> None:
    before = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2**21, 2**21))"
    told, kept = output_of(started(WRITE, path, before=before)).splitlines()
    assert f"token store {path}: a write failed" in told
    assert "what was stored before stays: look for a limit of the size of files (ulimit -f)" in told
    assert kept == "True True"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("cannot mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("frozen", [True, False])
def test_volume_that_cannot_be_written_is_read_and_that_it_is_without_a_lock_is_told(
    small_disk: Path, frozen: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = small_disk / "tokens"
    with LmdbStore.open(path, create=True) as store:
        store.namespace(ENCODER, SPEC, create=True).put_many([entry("a", 1)])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with LmdbStore.open(path, read_only=True, frozen=frozen) as store:
        assert len(store.namespace(ENCODER)) == 1
    assert ["is read without a lock" in record.getMessage() for record in caplog.records] == [True] * (
        not frozen
    )


def test_full_disk_is_named_and_keeps_what_was_stored(small_disk: Path) -> None:
    path = small_disk / "tokens"
    told, kept = output_of(started(WRITE, path)).splitlines()
    assert f"token store {path}: the disk is full" in told
    assert f"{path / 'data.mdb'} has " in told
    assert "what was stored before stays: free some" in told
    assert kept == "True True"
