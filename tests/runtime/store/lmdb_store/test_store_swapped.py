"""Stores whose files are replaced, cut or taken away under a reader, and what it makes of that."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rankport.protos.errors import StoreError
from rankport.runtime.store.contract import TokenNamespace
from rankport.runtime.store.hot_tokens import HotTokens
from rankport.runtime.store.lmdb_store.store import LmdbStore
from rankport.runtime.store.token_spec import TokenSpec
from support.token_samples import ENCODER, SPEC, entry


def make(path: Path, number: int, encoder: str = ENCODER, items: int = 1) -> Path:
    with LmdbStore.open(path, create=True) as store:
        namespace = store.namespace(encoder, SPEC, create=True)
        namespace.put_many([entry(f"a{item or ''}", number) for item in range(items)])
    return path


def number_of(namespace: TokenNamespace | HotTokens) -> int:
    return int(namespace.read(["a"]).tokens[0, 0, 0])


@pytest.mark.parametrize("frozen", [True, False])
def test_directory_that_another_replaces_is_opened_anew(tmp_path: Path, frozen: bool) -> None:
    path, other = make(tmp_path / "tokens", 1), make(tmp_path / "new", 2)
    with LmdbStore.open(path, read_only=True, frozen=frozen) as store:
        namespace = store.namespace(ENCODER)
        hot = HotTokens(namespace, 2**20)
        assert (number_of(namespace), number_of(hot)) == (1, 1)
        path.rename(tmp_path / "old")
        assert number_of(hot) == 1  # between the two renames
        other.rename(path)
        assert (number_of(namespace), number_of(hot)) == (2, 2)
        shutil.rmtree(tmp_path / "old")
        assert number_of(hot) == 2
        assert namespace.alive


def test_flipped_link_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.symlink_to(make(tmp_path / "one", 1))
    make(tmp_path / "two", 2)
    with LmdbStore.open(path, read_only=True) as store:
        namespace = store.namespace(ENCODER)
        assert number_of(namespace) == 1
        (tmp_path / "next").symlink_to(tmp_path / "two")
        os.replace(tmp_path / "next", path)
        assert number_of(namespace) == 2


def test_store_that_goes_is_read_on_for_a_while_then_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make(tmp_path / "tokens", 1)
    with LmdbStore.open(path, read_only=True, swap_s=0) as store:
        namespace = store.namespace(ENCODER)
        path.rename(tmp_path / "away")
        with pytest.raises(StoreError, match=r"is gone under this process.*renaming a directory"):
            number_of(namespace)
        with caplog.at_level(logging.INFO):
            assert not namespace.alive
            assert not namespace.alive
            (tmp_path / "away").rename(path)
            assert namespace.alive
        assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
        assert number_of(namespace) == 1


@pytest.mark.parametrize("kind", ["no encoder", "other spec", "no store"])
def test_store_without_what_is_read_takes_no_place_of_one(tmp_path: Path, kind: str) -> None:
    path, other = make(tmp_path / "tokens", 1), tmp_path / "new"
    problem = r"has no tokens \[2, 4\] float16 of encoder a{64}"
    match kind:
        case "no encoder":
            make(other, 2, encoder="b" * 64)
        case "other spec":
            with LmdbStore.open(other, create=True) as store:
                store.namespace(ENCODER, TokenSpec(1, 4, "float16"), create=True)
        case "no store":
            other.mkdir()
            (other / "data.mdb").write_bytes(b"x" * 8192)
            problem = "cannot be opened"
    with LmdbStore.open(path, read_only=True, swap_s=0) as store:
        namespace = store.namespace(ENCODER)
        path.rename(tmp_path / "old")
        other.rename(path)
        with pytest.raises(
            StoreError,
            match=f"replaced by another under this process: .*{problem}",
        ):
            number_of(namespace)
        assert not namespace.alive
        shutil.rmtree(path)
        make(tmp_path / "right", 3).rename(path)
        assert number_of(namespace) == 3


def test_file_that_is_cut_under_a_reader_is_told_and_its_copy_is_read_once_whole(tmp_path: Path) -> None:
    path, other = make(tmp_path / "tokens", 1, items=500), make(tmp_path / "new", 2, items=500)
    whole = (other / "data.mdb").read_bytes()
    with LmdbStore.open(path, read_only=True, swap_s=0) as store:
        namespace = store.namespace(ENCODER)
        assert number_of(namespace) == 1
        for size in (0, 100, 3 * 4096, len(whole) - 4096):
            (path / "data.mdb").write_bytes(whole[:size])
            with pytest.raises(StoreError, match=r"is cut short under this process: .*never by writing over"):
                number_of(namespace)
            assert not namespace.alive
        (path / "data.mdb").write_bytes(whole)
        assert number_of(namespace) == 2
        assert len(namespace) == 500


def test_pages_that_are_damaged_under_a_reader_are_told_and_their_copy_is_read(tmp_path: Path) -> None:
    path = make(tmp_path / "tokens", 1, items=500)
    whole = shutil.copytree(path, tmp_path / "whole")
    with LmdbStore.open(path, read_only=True, swap_s=0) as store:
        namespace = store.namespace(ENCODER)
        assert number_of(namespace) == 1
        with (path / "data.mdb").open("r+b") as data:
            size = data.seek(0, os.SEEK_END)
            data.seek(2 * 4096)  # behind the two that say where the others are
            data.write(b"\x5a" * (size - 2 * 4096))
        for _ in range(2):
            with pytest.raises(StoreError, match=r"pages of data\.mdb are damaged .*: copy it anew"):
                number_of(namespace)
        path.rename(tmp_path / "damaged")
        whole.rename(path)
        assert number_of(namespace) == 1


def test_copy_over_the_file_empties_what_is_kept_in_memory(tmp_path: Path) -> None:
    path, other = make(tmp_path / "tokens", 1), make(tmp_path / "new", 2)
    with LmdbStore.open(path, read_only=True) as store:
        hot = HotTokens(store.namespace(ENCODER), 2**20)
        assert number_of(hot) == 1
        content = (other / "data.mdb").read_bytes()
        with (path / "data.mdb").open("r+b") as file:  # as rsync --inplace does
            file.write(content)
        assert number_of(hot) == 2


def test_store_that_is_cut_short_is_not_opened(tmp_path: Path) -> None:
    path = make(tmp_path / "tokens", 1, items=500)
    size = (path / "data.mdb").stat().st_size
    os.truncate(path / "data.mdb", size - 8192)
    for frozen in (True, False):
        with pytest.raises(
            StoreError, match=rf"cut short: data.mdb has {size - 8192} bytes.*take \d+: copy it anew"
        ):
            LmdbStore.open(path, read_only=True, frozen=frozen)


def test_writer_whose_file_is_replaced_stores_nothing_more(tmp_path: Path) -> None:
    path, other = make(tmp_path / "tokens", 1), make(tmp_path / "new", 2)
    with LmdbStore.open(path) as store:
        namespace = store.namespace(ENCODER)
        path.rename(tmp_path / "old")
        other.rename(path)
        for use in (lambda: namespace.put_many([entry("b")]), lambda: number_of(namespace)):
            with pytest.raises(
                StoreError, match=r"replaced by another since it was opened to write.*run again"
            ):
                use()


WRITER = """
import sys
import numpy as np
from rankport.runtime.store.contract import TokenEntry, TokenStore
from rankport.runtime.store.lmdb_store.store import LmdbStore
with LmdbStore.open(sys.argv[1]) as store:
    tokens = np.full((2, 4), 2, np.float16)
    store.namespace(sys.argv[2]).put_many([TokenEntry("a", tokens, bytes(16))])
"""


def test_frozen_store_refuses_writing_and_sees_that_another_wrote(tmp_path: Path) -> None:
    path = make(tmp_path / "tokens", 1)
    with LmdbStore.open(path, frozen=True) as store:
        namespace = store.namespace(ENCODER)
        assert number_of(namespace) == 1
        with pytest.raises(StoreError, match="read-only"):
            namespace.put_many([entry("b")])
        subprocess.run([sys.executable, "-c", WRITER, str(path), ENCODER], check=True)
        with pytest.raises(StoreError, match="open frozen and was written to: write to a copy and rename"):
            number_of(namespace)
        assert not namespace.alive
    with LmdbStore.open(path, frozen=True) as store:
        assert number_of(store.namespace(ENCODER)) == 2
