"""`TokenStore` and its namespaces: what is put comes back by its key, and nothing else does."""

import os
from datetime import UTC, datetime
from pathlib import Path

import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.runtime.store.contract import TokenEntry, TokenNamespace, TokenStore
from rankport.runtime.store.lmdb_store.store import LmdbStore
from rankport.runtime.store.token_spec import TokenSpec
from support.effort import scale
from support.token_samples import ENCODER, HASH, SPEC, entry, raw_put, tokens_of


def test_databases_have_the_names_and_bytes_the_format_states(path: Path) -> None:
    with LmdbStore.open(path, create=True) as store:
        store.namespace(ENCODER, SPEC, create=True).put_many([entry("one")])
    with lmdb.open(str(path), max_dbs=8) as env, env.begin() as txn:
        meta = env.open_db(b"meta", txn=txn, create=False)
        assert list(txn.cursor(meta)) == [
            (b"format", b'{"format":"rankport-token-store","format_version":1}'),
            (b"namespace/" + ENCODER.encode(), b'{"dtype":"float16","hidden_size":4,"tokens":2}'),
        ]
        items = env.open_db(b"tokens/" + ENCODER.encode(), txn=txn, create=False)
        [(name, value)] = txn.cursor(items)
        assert name == b"\x00one"
        assert value[40:] == tokens_of(0).tobytes()


@settings(max_examples=scale(40))
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=700), st.binary(min_size=16, max_size=16)
    )
)
def test_every_key_and_every_bit_of_its_tokens_come_back(
    namespace: TokenNamespace, contents: dict[str, bytes]
) -> None:
    namespace.delete_many(list(namespace.keys()))
    namespace.put_many(
        [
            TokenEntry(key, np.frombuffer(payload, np.float16).reshape(2, 4), payload)
            for key, payload in contents.items()
        ]
    )
    keys = list(contents)
    found = [tokens.tobytes() for tokens in namespace.get_many(keys) if tokens is not None]
    assert found == list(contents.values())
    assert namespace.content_hashes(keys) == list(contents.values())
    assert sorted(namespace.keys()) == sorted(keys)
    assert len(namespace) == len(keys)


def test_absent_keys_are_none_in_their_place(namespace: TokenNamespace) -> None:
    namespace.put_many([entry("b", 1)])
    first, second, third = namespace.get_many(["a", "b", "a" * 600])
    assert first is None
    assert third is None
    np.testing.assert_array_equal(second, tokens_of(1))
    assert namespace.content_hashes(["a", "b"]) == [None, HASH]
    assert namespace.info_many(["a"]) == [None]
    assert namespace.get_many([]) == []


def test_tokens_outlive_the_store_and_cannot_be_written(path: Path) -> None:
    with LmdbStore.open(path, create=True) as store:
        namespace = store.namespace(ENCODER, SPEC, create=True)
        namespace.put_many([entry("a", 3)])
        [tokens] = namespace.get_many(["a"])
    assert tokens is not None
    np.testing.assert_array_equal(tokens, tokens_of(3))
    with pytest.raises(ValueError, match="read-only"):
        tokens[0, 0] = 1


def test_a_folder_whose_name_is_no_text_is_a_store_too(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.lmdb")
    with LmdbStore.open(path, create=True) as store:
        store.namespace(ENCODER, SPEC, create=True).put_many([entry("a", 3)])
    with LmdbStore.open(path) as store:
        assert len(store.namespace(ENCODER)) == 1


def test_writing_again_replaces_tokens_hash_and_time(namespace: TokenNamespace) -> None:
    namespace.put_many([entry("a", 1)])
    before = datetime.now(UTC)
    namespace.put_many([TokenEntry("a", tokens_of(2), b"f" * 16)])
    [info] = namespace.info_many(["a"])
    assert info is not None
    assert info.content_hash == b"f" * 16
    assert before <= info.written_at <= datetime.now(UTC)
    np.testing.assert_array_equal(namespace.get_many(["a"])[0], tokens_of(2))
    assert len(namespace) == 1


def test_delete_counts_what_was_there(namespace: TokenNamespace) -> None:
    namespace.put_many([entry("a"), entry("b" * 600)])
    assert namespace.delete_many(["a", "a", "b" * 600, "c"]) == 2
    assert len(namespace) == 0
    assert namespace  # empty, but there


def test_keys_go_through_more_than_one_page_while_they_are_deleted(namespace: TokenNamespace) -> None:
    names = {f"{number:04d}" for number in range(2500)}
    namespace.put_many([entry(name) for name in names])
    seen: list[str] = []
    keys = namespace.keys()
    for key in keys:
        seen.append(key)
        if len(seen) % 400 == 0:
            namespace.delete_many(seen[-400:])
    namespace.delete_many(seen)
    assert len(seen) == len(names)
    assert set(seen) == names
    assert len(namespace) == 0


@pytest.mark.parametrize(
    "bad",
    [
        TokenEntry("bad", np.zeros((1, 4), np.float16), HASH),
        TokenEntry("bad", np.zeros((2, 4), np.float32), HASH),
        TokenEntry("bad", np.zeros((2, 4), ">f2"), HASH),
        TokenEntry("bad", np.zeros((2, 4), np.float16), b"short"),
        TokenEntry("", np.zeros((2, 4), np.float16), HASH),
    ],
)
def test_one_bad_entry_stores_none(namespace: TokenNamespace, bad: TokenEntry) -> None:
    with pytest.raises(InvalidRequest):
        namespace.put_many([entry("good"), bad])
    assert list(namespace.keys()) == []


def test_corrupt_value_is_an_error_that_names_the_key(path: Path) -> None:
    with LmdbStore.open(path, create=True) as store:
        store.namespace(ENCODER, SPEC, create=True).put_many([entry("good", 1), entry("bad", 2)])
    raw_put(path, b"tokens/" + ENCODER.encode(), b"\x00bad", b"x" * 56)
    with LmdbStore.open(path) as store:
        namespace = store.namespace(ENCODER)
        with pytest.raises(StoreError, match=r"'bad' of encoder a{64} is corrupt.*encode the item again"):
            namespace.get_many(["good", "bad"])
        assert namespace.content_hashes(["good", "bad"]) == [HASH, None]
        namespace.put_many([entry("bad", 2)])
        np.testing.assert_array_equal(namespace.get_many(["bad"])[0], tokens_of(2))


def test_namespaces_do_not_see_each_other(store: TokenStore, namespace: TokenNamespace) -> None:
    other = store.namespace("b" * 64, TokenSpec(1, 3, "float32"), create=True)
    namespace.put_many([entry("a", 1)])
    assert other.get_many(["a"]) == [None]
    assert store.fingerprints() == {ENCODER: SPEC, "b" * 64: TokenSpec(1, 3, "float32")}


def test_unknown_encoder_is_an_error_that_lists_what_there_is(
    store: TokenStore, namespace: TokenNamespace
) -> None:
    with pytest.raises(StoreError, match=rf"no tokens of encoder nobody .* has {ENCODER}: \[2, 4\] float16"):
        store.namespace("nobody")


def test_another_spec_is_an_error_that_names_both(store: TokenStore, namespace: TokenNamespace) -> None:
    with pytest.raises(StoreError, match=r"are \[2, 4\] float16, not \[2, 5\] float16"):
        store.namespace(ENCODER, TokenSpec(2, 5, "float16"), create=True)


@pytest.mark.parametrize("fingerprint", ["", "a b", "a/b", "é", "a" * 129, "a\n"])
def test_what_is_no_fingerprint_is_refused(store: TokenStore, fingerprint: str) -> None:
    with pytest.raises(InvalidRequest, match="fingerprint"):
        store.namespace(fingerprint, SPEC, create=True)


def test_creating_a_namespace_needs_its_spec(store: TokenStore) -> None:
    with pytest.raises(InvalidRequest, match="TokenSpec"):
        store.namespace(ENCODER, create=True)


def test_corrupt_spec_is_an_error_that_shows_it(path: Path) -> None:
    LmdbStore.open(path, create=True).close()
    raw_put(path, b"meta", b"namespace/x", b'{"dtype":"float16","hidden_size":4,"tokens":2,"more":1}')
    with LmdbStore.open(path) as store, pytest.raises(StoreError, match="spec of encoder x is corrupt"):
        store.namespace("x")
