"""Snapshots that are replaced, cut, written over or taken away under a reader."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rankport.protos.errors import StoreError
from rankport.runtime.store.contract import TokenNamespace
from rankport.runtime.store.hot_tokens import HotTokens
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.snapshot.store import SnapshotStore
from rankport.runtime.store.token_spec import TokenSpec
from support.snapshots import write_snapshot
from support.token_samples import ENCODER, entry


def number_of(namespace: TokenNamespace | HotTokens) -> int:
    return int(namespace.read(["a"]).tokens[0, 0, 0])


def test_file_that_another_replaces_is_opened_anew(tmp_path: Path) -> None:
    write_snapshot(tmp_path, {"a": 1})
    with open_store(tmp_path, read_only=True) as store:
        namespace = store.namespace(ENCODER)
        hot = HotTokens(namespace, 2**20)
        before = namespace.version()
        assert (number_of(namespace), number_of(hot), namespace.version()) == (1, 1, before)
        write_snapshot(tmp_path, {"a": 2, "b": 3})
        assert (number_of(hot), number_of(namespace), len(namespace)) == (2, 2, 2)
        assert namespace.version() != before


def test_tokens_that_a_new_file_brought_while_others_were_made_stay(tmp_path: Path) -> None:
    write_snapshot(tmp_path, {"other": 1})
    with open_store(tmp_path, read_only=True) as store:
        hot = HotTokens(store.namespace(ENCODER), 2**20)
        assert not len(hot.read(["a", "b"]).places)  # a request has both encoded
        write_snapshot(tmp_path, {"a": 2})  # of a newer text than the request brought
        hot.put([entry("a", 1), entry("b", 1)])
        assert hot.read(["a", "b"]).tokens[:, 0, 0].tolist() == [2, 1]


def test_directory_that_another_replaces_is_read_on_in_between(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    write_snapshot(path, {"a": 1})
    write_snapshot(tmp_path / "new", {"a": 2})
    with open_store(path, read_only=True) as store:
        namespace = store.namespace(ENCODER)
        path.rename(tmp_path / "old")
        assert number_of(namespace) == 1
        (tmp_path / "new").rename(path)
        assert number_of(namespace) == 2


def test_snapshot_that_goes_is_told_and_read_again_once_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_snapshot(tmp_path, {"a": 1})
    with SnapshotStore.open(tmp_path, swap_s=0) as store:
        namespace = store.namespace(ENCODER)
        file.rename(tmp_path / "away")
        with pytest.raises(StoreError, match=r"is gone under this process.*by renaming"):
            number_of(namespace)
        with caplog.at_level(logging.INFO):
            assert not namespace.alive
            assert not namespace.alive
            (tmp_path / "away").rename(file)
            assert namespace.alive
        assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
        assert number_of(namespace) == 1


@pytest.mark.parametrize("kind", ["other spec", "no snapshot", "other encoder"])
def test_file_without_what_is_read_takes_no_place_of_one(tmp_path: Path, kind: str) -> None:
    file, other = write_snapshot(tmp_path, {"a": 1}), tmp_path / "new"
    match kind:
        case "other spec":
            write_snapshot(other, {}, TokenSpec(1, 4, "float16"))
            problem = r"has tokens \[1, 4\] float16 of encoder a{64}, not \[2, 4\] float16"
        case "other encoder":
            write_snapshot(other, {"a": 1}, encoder="b" * 64).rename(other / file.name)
            problem = "has tokens .* of encoder b{64}, not .* of a{64}"
        case _:
            other.mkdir()
            (other / file.name).write_bytes(b"x" * 8192)
            problem = "it starts with b'xxxxxxxx'"
    with SnapshotStore.open(tmp_path, swap_s=0) as store:
        namespace = store.namespace(ENCODER)
        os.replace(other / file.name, file)
        with pytest.raises(StoreError, match=f"replaced by another under this process: .*{problem}"):
            number_of(namespace)
        write_snapshot(tmp_path, {"a": 3})
        assert number_of(namespace) == 3


def test_file_that_is_cut_or_written_over_is_told_and_read_once_whole(tmp_path: Path) -> None:
    file = write_snapshot(tmp_path, {"a": 1} | {str(number): number for number in range(2000)})
    whole = file.read_bytes()
    with SnapshotStore.open(tmp_path, swap_s=0) as store:
        namespace = store.namespace(ENCODER)
        pages = namespace.pages()
        assert number_of(namespace) == 1
        for size in (0, 100, 4096, len(whole) - 4096):
            file.write_bytes(whole[:size])
            with pytest.raises(StoreError, match=r"under this process: .*never by writing over"):
                number_of(namespace)
            assert not namespace.alive
        with pytest.raises(StoreError, match="under this process"):
            next(pages)
        file.write_bytes(whole + b"more")
        with pytest.raises(StoreError, match=r"written over under this process.*its header counts \d+"):
            number_of(namespace)
        file.write_bytes(whole)
        assert number_of(namespace) == 1


FORK = """
import os, sys
from rankport.protos.errors import StoreError
from rankport.runtime.store.opening import open_store
with open_store(sys.argv[1], read_only=True) as store:
    namespace = store.namespace(sys.argv[2])
    child = os.fork()
    if child == 0:
        try:
            namespace.read(["a"])
        except StoreError as error:
            os._exit(42 if "fork" in str(error) else 1)
        os._exit(2)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_snapshot_opened_before_a_fork_is_refused_in_the_child(tmp_path: Path) -> None:
    write_snapshot(tmp_path, {"a": 1})
    assert subprocess.run([sys.executable, "-c", FORK, str(tmp_path), ENCODER], check=False).returncode == 42
