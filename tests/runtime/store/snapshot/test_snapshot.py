"""Snapshots give back what was written to them."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.runtime.store.hot_tokens import HotTokens
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.snapshot.store import SnapshotStore
from rankport.runtime.store.snapshot.writer import SnapshotWriter
from rankport.runtime.store.token_spec import TokenSpec
from support.snapshots import WRITTEN_US, facts_of, write_snapshot
from support.token_samples import ENCODER, HASH, SPEC, entry


def test_every_key_gives_its_tokens_and_others_nothing(tmp_path: Path) -> None:
    items = {f"item {number}": number for number in range(2000)} | {"é" * 700: 5000, "k" * 65_535: 5001}
    write_snapshot(tmp_path, items)
    with open_store(tmp_path, read_only=True) as store:
        assert dict(store.fingerprints()) == {ENCODER: SPEC}
        namespace = store.namespace(ENCODER, SPEC)
        asked = ["absent", *reversed(items), "item 1", "also absent"]
        stored = namespace.read(asked)
        np.testing.assert_array_equal(stored.places, np.arange(1, len(items) + 2))
        there = np.array([items[asked[place]] for place in stored.places], np.float16)
        np.testing.assert_array_equal(
            stored.tokens, np.broadcast_to(there[:, None, None], (len(there), 2, 4))
        )
        assert stored.tokens.dtype == np.float16
        assert not stored.tokens.flags.writeable
        assert len(namespace) == len(items)
        assert sorted(namespace.keys()) == sorted(items)
        assert (namespace.writable, namespace.alive) == (False, True)


def test_facts_are_kept_beside_the_tokens(tmp_path: Path) -> None:
    write_snapshot(tmp_path, {"a": 1})
    with open_store(tmp_path, read_only=True) as store:
        namespace = store.namespace(ENCODER)
        assert namespace.content_hashes(["b", "a"]) == [None, HASH]
        absent, info = namespace.info_many(["b", "a"])
        assert (absent, info and info.content_hash) == (None, HASH)
        assert info is not None
        assert info.written_at == datetime.fromtimestamp(WRITTEN_US / 1e6, UTC)


@pytest.mark.parametrize(
    "spec", [TokenSpec(3, 5, "int8"), TokenSpec(1, 3, "float32"), TokenSpec(3, 3, "float16")]
)
def test_rows_of_any_size_and_type_are_read_as_they_were_given(tmp_path: Path, spec: TokenSpec) -> None:
    shape = 10, spec.tokens, spec.hidden_size
    tokens = np.random.default_rng(0).normal(size=shape).astype(spec.numpy_dtype)
    write_snapshot(tmp_path, {str(number): row for number, row in enumerate(tokens)}, spec)
    with open_store(tmp_path, read_only=True) as store:
        namespace = store.namespace(ENCODER)
        assert namespace.spec == spec
        read = namespace.read([str(number) for number in range(10)]).tokens
        np.testing.assert_array_equal(read, spec.as_read(tokens))
        np.testing.assert_array_equal(HotTokens(namespace, 2**20).read(["3"]).tokens[0], read[3])


def test_snapshot_without_items_is_read_as_such(tmp_path: Path) -> None:
    write_snapshot(tmp_path, {})
    with open_store(tmp_path, read_only=True) as store:
        namespace = store.namespace(ENCODER)
        assert len(namespace) == 0
        assert namespace.read(["a"]).tokens.shape == (0, 2, 4)
        assert list(namespace.keys()) == []


def test_of_a_key_that_was_written_twice_the_last_tokens_count(tmp_path: Path) -> None:
    with SnapshotWriter(tmp_path, ENCODER, SPEC, "test") as writer:
        for number in (1, 2):
            writer.append(facts_of(["a", f"b{number}"]), np.full((2, 2, 4), number, np.float16))
        writer.seal()
        writer.publish()
    with open_store(tmp_path, read_only=True) as store:
        namespace = store.namespace(ENCODER)
        assert namespace.read(["a"]).tokens[0, 0, 0] == 2
        assert sorted(namespace.keys()) == ["a", "b1", "b2"]
        assert len(namespace) == 3


def test_marks_differ_where_tokens_were_written_anew(tmp_path: Path) -> None:
    marks = []
    for name, content_hash in (("one", HASH), ("same", HASH), ("other", bytes(16))):
        write_snapshot(tmp_path / name, {"a": 1}, content_hash=content_hash)
        with open_store(tmp_path / name, read_only=True) as store:
            marks.append(next(store.namespace(ENCODER).pages())[0].mark)
    assert marks[0] == marks[1] != marks[2]


@pytest.mark.parametrize("key", ["", "k" * 65_536, "\ud800", 7])
def test_what_is_no_key_is_refused(tmp_path: Path, key: str) -> None:
    write_snapshot(tmp_path, {"a": 1})
    with open_store(tmp_path, read_only=True) as store, pytest.raises(InvalidRequest, match="item key"):
        store.namespace(ENCODER).read(["a", key])


def test_nothing_is_written_to_a_snapshot(tmp_path: Path) -> None:
    write_snapshot(tmp_path, {"a": 1})
    for how in ({}, {"create": True}):
        with pytest.raises(StoreError, match=r"is a snapshot, which is only read: write to a store in LMDB"):
            open_store(tmp_path, **how)
    with pytest.raises(InvalidRequest, match="cannot be read-only"):
        open_store(tmp_path, create=True, read_only=True)
    with open_store(tmp_path, frozen=True) as store:
        namespace = store.namespace(ENCODER)
        for write in (
            lambda: namespace.put_many([entry("b")]),
            lambda: namespace.delete_many(["a"]),
            lambda: store.namespace("b" * 64, SPEC, create=True),
            lambda: store.namespace("b" * 64, SPEC, create=True, filling=True),
        ):
            with pytest.raises(StoreError, match=r"snapshot|cannot hide"):
                write()
        assert namespace.read(["a"]).places.tolist() == [0]


def test_encoders_lie_beside_each_other_and_one_is_dropped_alone(tmp_path: Path) -> None:
    other = "b" * 64
    write_snapshot(tmp_path, {"a": 1})
    write_snapshot(tmp_path, {"a": 2}, encoder=other)
    with SnapshotStore.open(tmp_path) as store:
        assert set(store.fingerprints()) == {ENCODER, other}
        assert store.namespace(other).read(["a"]).tokens[0, 0, 0] == 2
        store.drop(other)
        with pytest.raises(
            StoreError, match=r"no tokens of encoder b{64} here\. .* has a{64}: \[2, 4\] float16"
        ):
            store.namespace(other)
        assert store.namespace(ENCODER).read(["a"]).tokens[0, 0, 0] == 1


def test_closed_store_says_so(tmp_path: Path) -> None:
    write_snapshot(tmp_path, {"a": 1})
    with open_store(tmp_path, read_only=True) as store:
        namespace = store.namespace(ENCODER)
    store.close()
    for use in (lambda: namespace.read(["a"]), lambda: store.namespace(ENCODER), store.fingerprints):
        with pytest.raises(StoreError, match="closed"):
            use()
    assert not namespace.alive


def test_directory_with_both_kinds_of_store_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path, create=True).close()
    write_snapshot(tmp_path, {"a": 1})
    with pytest.raises(StoreError, match="holds a store in LMDB and snapshots"):
        open_store(tmp_path, read_only=True)


def test_file_under_the_name_of_another_encoder_is_refused(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path, {"a": 1})
    path.rename(path.with_name("b" * 64 + path.suffix))
    with pytest.raises(StoreError, match=r"has the tokens of encoder a{64}: name it a{64}\.tokens"):
        open_store(tmp_path, read_only=True)
