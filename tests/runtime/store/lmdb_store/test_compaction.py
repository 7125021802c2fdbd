"""A store that is compacted under readers and writers."""

import ctypes
import errno
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rankport.protos.errors import StoreError
from rankport.runtime.store.lmdb_store.compaction import compact_store
from rankport.runtime.store.lmdb_store.environment import LmdbEnvironment
from rankport.runtime.store.lmdb_store.namespace import LmdbNamespace
from rankport.runtime.store.lmdb_store.store import LmdbStore
from support.effort import full_effort
from support.token_samples import ENCODER, SPEC, entry

COMPACT = """
import sys
from pathlib import Path
from rankport.runtime.store.lmdb_store.compaction import compact_store
print("begun", flush=True)
compact_store(Path(sys.argv[1]))
"""
WRITE = """
import sys
from rankport.runtime.store.opening import open_store
from support.token_samples import ENCODER, entry
print("begun", flush=True)
with open_store(sys.argv[1]) as store:
    store.namespace(ENCODER).put_many([entry("c", 3)])
"""
TESTS = Path(__file__).parents[3]  # from where `support` is imported


def compact_elsewhere(path: Path) -> None:
    """Compacts in another process: this one has the store open."""
    subprocess.run([sys.executable, "-c", COMPACT, str(path)], check=True)


def items_at(path: Path) -> list[str]:
    with LmdbStore.open(path, read_only=True) as reader:
        return sorted(reader.namespace(ENCODER).keys())


def fill(path: Path) -> None:
    with LmdbStore.open(path, create=True) as store:
        store.namespace(ENCODER, SPEC, create=True).put_many([entry("a", 1), entry("b", 2)])


def test_reader_goes_on_in_the_compacted_store_and_a_writer_is_told(path: Path) -> None:
    fill(path)
    with LmdbStore.open(path) as store:
        namespace = store.namespace(ENCODER)
        compact_elsewhere(path)
        with pytest.raises(
            StoreError, match=r"replaced by another since it was opened to write to.*run again"
        ):
            namespace.put_many([entry("c", 3)])
    with LmdbStore.open(path, read_only=True) as reader:
        namespace = reader.namespace(ENCODER)
        compact_elsewhere(path)
        assert namespace.read(["a", "b"]).tokens[:, 0, 0].tolist() == [1, 2]
        assert namespace.alive


def test_writer_that_follows_goes_on_in_the_store_that_comes_into_its_place(path: Path) -> None:
    def replace() -> None:
        shutil.copytree(path, path.with_name("new"))
        path.rename(path.with_name("old"))
        path.with_name("new").rename(path)
        shutil.rmtree(path.with_name("old"))

    fill(path)
    with LmdbStore.open(path, follow=True) as store:
        namespace = store.namespace(ENCODER)
        replace()
        assert namespace.read(["a", "b"]).tokens[:, 0, 0].tolist() == [1, 2]
        replace()
        namespace.put_many([entry("c", 3)])
        path.rename(path.with_name("old"))
        with pytest.raises(StoreError, match="is gone under this process"):
            namespace.put_many([entry("d", 4)])
        assert namespace.read(["c"]).tokens[:, 0, 0].tolist() == [3]
        path.with_name("old").rename(path)
    assert items_at(path) == ["a", "b", "c"]


@pytest.mark.parametrize("follow", [False, True])
def test_writer_that_waits_for_its_turn_meanwhile_loses_nothing_in_silence(path: Path, follow: bool) -> None:
    fill(path)
    with LmdbStore.open(path, follow=follow) as store:
        told: list[str] = []

        def put() -> None:
            try:
                store.namespace(ENCODER).put_many([entry("c", 3)])
            except StoreError as error:
                told.append(str(error))

        def swap(_: object) -> None:
            writer.start()  # waits for LMDB's lock, behind this transaction
            while not waits_for_the_lock():
                pass
            path.rename(path.with_name("old"))
            (path.with_name("new")).rename(path)

        def waits_for_the_lock() -> bool:
            frame = sys._current_frames().get(writer.ident or 0)
            return frame is not None and frame.f_code.co_filename.endswith("environment.py")

        writer = threading.Thread(target=put)
        path.with_name("new").mkdir()
        store.compact(path.with_name("new"), swap)
        writer.join()
    if follow:
        assert (told, items_at(path)) == ([], ["a", "b", "c"])
        return
    assert len(told) == 1
    assert "replaced by another since it was opened to write to" in told[0]
    assert items_at(path) == ["a", "b"]


def test_compaction_that_was_killed_between_its_renames_is_told_and_made_whole(path: Path) -> None:
    fill(path)
    path.rename(path.with_name(f".{path.name}.old"))
    with pytest.raises(StoreError, match=r"was being compacted.*`rankport store compact .*` puts it back"):
        LmdbStore.open(path, create=True)  # else a new one, and the next compaction deletes the old one
    compact_store(path)
    with LmdbStore.open(path, read_only=True) as reader:
        assert len(reader.namespace(ENCODER)) == 2
    assert [other.name for other in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("exchanges", [False, True])
def test_compaction_that_is_killed_while_the_directories_swap_leaves_a_whole_store(
    path: Path, exchanges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path)

    def die(folder: Path) -> None:
        if folder == path.parent:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("rankport.runtime.store.lmdb_store.compaction.sync_names", die)
        if not exchanges:
            patched.setattr("rankport.runtime.store.lmdb_store.compaction.exchanged", lambda *_: False)
        with pytest.raises(KeyboardInterrupt):
            compact_store(path)
    assert items_at(path) == ["a", "b"]
    compact_store(path)
    assert items_at(path) == ["a", "b"]
    assert [other.name for other in path.parent.iterdir()] == [path.name]


def test_what_is_stored_right_before_the_copy_is_no_fault_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path)
    copy = LmdbEnvironment.copy_compacted

    def written_before(env: LmdbEnvironment, *given: Any) -> None:
        database = f"tokens/{ENCODER}".encode()
        env.open_db(database)
        LmdbNamespace(env, database, ENCODER, SPEC).put_many([entry("c", 3)])
        copy(env, *given)

    monkeypatch.setattr(LmdbEnvironment, "copy_compacted", written_before)
    compact_store(path)
    assert items_at(path) == ["a", "b", "c"]


def test_who_could_use_the_store_can_use_the_compacted_one(path: Path) -> None:
    fill(path)
    modes = {"": 0o2775, "data.mdb": 0o640, "lock.mdb": 0o666}
    for name, mode in modes.items():
        (path / name).chmod(mode)
    compact_store(path)
    assert {name: stat.S_IMODE((path / name).stat().st_mode) for name in modes} == modes


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EXDEV, errno.EPERM])
def test_where_two_names_cannot_be_exchanged_they_are_renamed(
    path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path)

    class Library:
        """System whose call fails."""

        def __init__(self, *_: object, **__: object) -> None:
            pass

        def renameat2(self, *_: object) -> int:
            ctypes.set_errno(code)
            return -1

    monkeypatch.setattr("rankport.runtime.store.durable_files.ctypes.CDLL", Library)
    compact_store(path)
    assert items_at(path) == ["a", "b"]
    assert [other.name for other in path.parent.iterdir()] == [path.name]


@full_effort
def test_compactions_take_turns_and_writers_that_come_meanwhile_write_to_the_new_store(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path)
    another, begun = LmdbStore.compact, []

    def slowly(store: LmdbStore, directory: Path, then: Callable[[Mapping[str, int]], None]) -> None:
        def held(counts: Mapping[str, int]) -> None:
            others = [
                subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, cwd=TESTS)
                for script in (COMPACT, WRITE)
            ]
            begun.extend(others)
            for other in others:
                assert other.stdout is not None
                other.stdout.readline()
            then(counts)

        another(store, directory, held)

    with monkeypatch.context() as patched:
        patched.setattr(LmdbStore, "compact", slowly)
        compact_store(path)
    for other in begun:
        other.communicate()
    assert [other.returncode for other in begun] == [0, 0]
    assert items_at(path) == ["a", "b", "c"]
    assert [other.name for other in path.parent.iterdir()] == [path.name]


def test_a_file_of_the_owner_is_not_deleted_with_the_directory(path: Path) -> None:
    fill(path)
    (path / "notes.md").write_text("mine")
    with pytest.raises(StoreError, match=r"holds 'notes\.md', which is none of its own files"):
        compact_store(path)
    assert items_at(path) == ["a", "b"]
    (path / "notes.md").unlink()
    compact_store(path)
    assert items_at(path) == ["a", "b"]


def test_there_must_be_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no token store at"):
        compact_store(tmp_path / "none")
