"""`TokenStore` as it is created, opened, closed, grown and shared with other processes."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lmdb
import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.protos.processes.own_process import OwnProcess
from rankport.runtime.store.contract import TokenEntry, TokenNamespace, TokenStore
from rankport.runtime.store.lmdb_store.store import LmdbStore
from rankport.runtime.store.token_spec import TokenSpec
from support.file_limits import files_of_at_most
from support.token_samples import ENCODER, HASH, SPEC, entry, raw_put, tokens_of


@pytest.mark.parametrize("read_only", [True, False])
def test_missing_store_is_an_error_with_the_way_out(path: Path, read_only: bool) -> None:
    with pytest.raises(StoreError, match=r"no token store at .*rankport encode"):
        LmdbStore.open(path, read_only=read_only)
    assert not path.exists()


def test_create_makes_parent_directories_and_opens_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down"
    for _ in range(2):
        with LmdbStore.open(path, create=True) as store:
            assert len(store.namespace(ENCODER, SPEC, create=True)) == 0


def test_a_store_is_never_made_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"holds 'notes.txt'.*empty directory"):
        LmdbStore.open(tmp_path, create=True)
    with pytest.raises(StoreError, match="is a file"):
        LmdbStore.open(tmp_path / "notes.txt", create=True)


def test_create_and_read_only_together_are_refused(path: Path) -> None:
    with pytest.raises(InvalidRequest, match="read-only"):
        LmdbStore.open(path, create=True, read_only=True)


def test_store_whose_creation_was_killed_is_made_whole(path: Path) -> None:
    path.mkdir()
    lmdb.open(str(path)).close()
    with pytest.raises(StoreError, match="not a token store"):
        LmdbStore.open(path)
    with LmdbStore.open(path, create=True) as store:
        assert store.fingerprints() == {}


def test_another_lmdb_environment_is_refused_and_left_alone(path: Path) -> None:
    path.mkdir()
    raw_put(path, b"users", b"k", b"v")
    with pytest.raises(StoreError, match="not a token store"):
        LmdbStore.open(path, create=True)
    with lmdb.open(str(path), max_dbs=8) as env, env.begin() as txn:
        assert [bytes(name) for name, _ in txn.cursor()] == [b"users"]


def test_newer_store_is_refused_with_both_versions(path: Path) -> None:
    LmdbStore.open(path, create=True).close()
    raw_put(path, b"meta", b"format", b'{"format":"rankport-token-store","format_version":2}')
    with pytest.raises(StoreError, match=r'"format_version":2.*this release reads version 1'):
        LmdbStore.open(path)


@pytest.mark.parametrize("content", [b"x" * 8192, b"x"])
def test_file_that_is_no_database_is_refused(path: Path, content: bytes) -> None:
    path.mkdir()
    (path / "data.mdb").write_bytes(content)
    with pytest.raises(StoreError, match="cannot be opened"):
        LmdbStore.open(path)


def test_file_that_is_empty_is_told_so(path: Path) -> None:
    path.mkdir()
    (path / "data.mdb").touch()
    with pytest.raises(StoreError, match=r"data\.mdb is empty: copy it anew"):
        LmdbStore.open(path, read_only=True)


def test_second_opening_in_a_process_is_refused_and_the_first_still_works(
    path: Path, store: TokenStore, namespace: TokenNamespace
) -> None:
    with pytest.raises(StoreError, match=r"already open in this process.*pass the open TokenStore"):
        LmdbStore.open(path)
    link = path.with_name("link")
    link.symlink_to(path)
    with pytest.raises(StoreError, match="already open in this process"):
        LmdbStore.open(link, read_only=True)
    namespace.put_many([entry("a", 1)])
    store.close()
    with LmdbStore.open(link, read_only=True) as again:
        assert again.namespace(ENCODER).get_many(["a"])[0] is not None


def test_read_only_store_reads_and_refuses_to_write(path: Path) -> None:
    with LmdbStore.open(path, create=True) as store:
        store.namespace(ENCODER, SPEC, create=True).put_many([entry("a", 1)])
    with LmdbStore.open(path, read_only=True) as store:
        namespace = store.namespace(ENCODER, SPEC)
        np.testing.assert_array_equal(namespace.get_many(["a"])[0], tokens_of(1))
        for write in (
            lambda: namespace.put_many([entry("b")]),
            lambda: namespace.delete_many(["a"]),
            lambda: store.namespace("new", SPEC, create=True),
        ):
            with pytest.raises(StoreError, match="read-only"):
                write()


def test_closed_store_says_so(store: TokenStore, namespace: TokenNamespace) -> None:
    store.close()
    store.close()
    for use in (
        lambda: namespace.get_many(["a"]),
        lambda: namespace.put_many([entry("a")]),
        store.fingerprints,
    ):
        with pytest.raises(StoreError, match="closed"):
            use()


def test_two_threads_may_close_a_store_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, met = LmdbStore.open(path, create=True), threading.Barrier(2)
    forked, waited = OwnProcess.forked, set[str]()

    def both_there(process: OwnProcess) -> bool:
        """Waits, the first time, until both are about to close it."""
        name = threading.current_thread().name
        if name.startswith("closing") and name not in waited:
            waited.add(name)
            met.wait(30.0)
        return bool(forked.fget(process))  # type: ignore[attr-defined]

    monkeypatch.setattr(OwnProcess, "forked", property(both_there))
    with ThreadPoolExecutor(2, thread_name_prefix="closing") as threads:
        for closed in [threads.submit(store.close) for _ in range(2)]:
            closed.result()
    assert waited == {"closing_0", "closing_1"}


def test_map_grows_under_readers_of_the_same_process(path: Path) -> None:
    with LmdbStore.open(path, create=True, map_bytes=64 * 1024) as store:
        namespace = store.namespace(ENCODER, TokenSpec(2, 256, "float16"), create=True)
        written: list[int] = []
        problems: list[BaseException] = []
        done = threading.Event()

        def read() -> None:
            try:
                while not done.is_set():
                    numbers = written[-50:]
                    for number, tokens in zip(
                        numbers, namespace.get_many([str(n) for n in numbers]), strict=True
                    ):
                        assert tokens is not None
                        assert (tokens == number).all()
            except BaseException as error:
                problems.append(error)

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        for start in range(0, 2000, 50):
            numbers = range(start, start + 50)
            namespace.put_many([TokenEntry(str(n), np.full((2, 256), n, np.float16), HASH) for n in numbers])
            written.extend(numbers)
        done.set()
        for reader in readers:
            reader.join()
        assert not problems
        assert len(namespace) == 2000
    assert (path / "data.mdb").stat().st_size > 16 * 64 * 1024


def test_batch_larger_than_the_whole_map_is_stored(path: Path) -> None:
    with LmdbStore.open(path, create=True, map_bytes=64 * 1024) as store:
        namespace = store.namespace(ENCODER, SPEC, create=True)
        namespace.put_many([entry(f"{number:05d}" * 50, number) for number in range(3000)])
        assert len(namespace) == 3000


WRITER = """
import sys
import numpy as np
from rankport.runtime.store.contract import TokenEntry, TokenStore
from rankport.runtime.store.lmdb_store.store import LmdbStore
from rankport.runtime.store.token_spec import TokenSpec
with LmdbStore.open(sys.argv[1], map_bytes=65536) as store:
    for line in sys.stdin:
        namespace = store.namespace(line.strip(), TokenSpec(2, 256, "float16"), create=True)
        namespace.put_many([TokenEntry(str(n), np.full((2, 256), n, np.float16), bytes(16)) for n in range(500)])
        print("stored", flush=True)
"""


@pytest.mark.parametrize("read_only", [True, False])
def test_reader_follows_what_another_process_writes(path: Path, read_only: bool) -> None:
    LmdbStore.open(path, create=True, map_bytes=64 * 1024).close()
    command = [sys.executable, "-c", WRITER, str(path)]
    with (
        LmdbStore.open(path, read_only=read_only, map_bytes=64 * 1024) as store,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer,
    ):
        assert writer.stdin is not None
        assert writer.stdout is not None
        for fingerprint in ("first", "second"):  # the map grows each time, under an open namespace the second
            print(fingerprint, file=writer.stdin, flush=True)
            assert writer.stdout.readline() == "stored\n"
            namespace = store.namespace(fingerprint)
            assert len(namespace) == 500
            last = namespace.get_many(["499"])[0]
            assert last is not None
            assert (last == 499).all()
        assert len(store.namespace("first")) == 500
        writer.stdin.close()
    assert writer.returncode == 0


FORK = """
import os, sys
from rankport.protos.errors import StoreError
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.lmdb_store.store import LmdbStore
from rankport.runtime.store.token_spec import TokenSpec
with LmdbStore.open(sys.argv[1]) as store:
    namespace = store.namespace("x", TokenSpec(1, 1, "float16"), create=True)
    child = os.fork()
    if child == 0:
        try:
            namespace.get_many(["a"])
        except StoreError as error:
            os._exit(42 if "fork" in str(error) else 1)
        os._exit(2)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_store_opened_before_a_fork_is_refused_in_the_child(path: Path) -> None:
    LmdbStore.open(path, create=True).close()
    assert subprocess.run([sys.executable, "-c", FORK, str(path)], check=False).returncode == 42


def test_a_disk_without_room_for_the_lock_file_is_an_error_and_no_signal(path: Path) -> None:
    with files_of_at_most(10_000), pytest.raises(StoreError, match=r"no room for lock\.mdb: File too large"):
        LmdbStore.open(path, create=True)
    with LmdbStore.open(path, create=True):
        lock = (path / "lock.mdb").stat()
        assert lock.st_blocks * 512 >= lock.st_size > 1024 * 64  # no hole, and room for as many readers
