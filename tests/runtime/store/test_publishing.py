"""Tokens of an encoder that are filled beside those that are read, shown in one step, and dropped."""

import subprocess
import sys
from pathlib import Path

import pytest

from rankport.protos.errors import StoreError
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.lmdb_store.store import LmdbStore
from support.token_samples import ENCODER, SPEC, entry

NEW = "b" * 64


def fill(store: TokenStore) -> None:
    store.namespace(ENCODER, SPEC, create=True).put_many([entry("a", 1)])
    store.namespace(NEW, SPEC, create=True, filling=True).put_many([entry("a", 2), entry("b", 3)])


def test_tokens_that_are_filled_are_hidden_until_published(store: TokenStore) -> None:
    fill(store)
    assert dict(store.fingerprints()) == {ENCODER: SPEC}
    assert dict(store.filling()) == {NEW: SPEC}
    with pytest.raises(
        StoreError, match=rf"{NEW} are not published yet: .*rankport store publish {NEW} --store"
    ):
        store.namespace(NEW)
    assert len(store.namespace(NEW, filling=True)) == 2
    store.publish(NEW)
    store.publish(NEW)
    assert set(store.fingerprints()) == {ENCODER, NEW}
    assert not store.filling()
    assert int(store.namespace(NEW).read(["b"]).tokens[0, 0, 0]) == 3


def test_a_hidden_namespace_stays_hidden_while_it_is_written_to(store: TokenStore) -> None:
    fill(store)
    store.namespace(NEW, SPEC, create=True).put_many([entry("c", 4)])
    assert set(store.filling()) == {NEW}
    store.namespace(ENCODER, SPEC, create=True, filling=True)
    assert set(store.filling()) == {NEW}


def test_another_process_sees_the_switch_and_a_drop_without_opening_anew(
    path: Path, store: TokenStore
) -> None:
    fill(store)
    store.close()
    with LmdbStore.open(path, read_only=True) as reader:
        assert set(reader.fingerprints()) == {ENCODER}
        with pytest.raises(StoreError, match="read-only"):
            reader.publish(NEW)
        elsewhere(path, "publish", NEW)
        assert int(reader.namespace(NEW).read(["a"]).tokens[0, 0, 0]) == 2
        namespace = reader.namespace(ENCODER)
        elsewhere(path, "drop", ENCODER)
        with pytest.raises(
            StoreError, match="an encoder that this process reads were dropped: encode them again"
        ):
            namespace.read(["a"])
        assert not namespace.alive
        assert reader.namespace(NEW).alive


def test_dropped_tokens_are_gone_with_their_spec_and_may_be_made_again(store: TokenStore) -> None:
    fill(store)
    for encoder in (NEW, ENCODER):
        store.drop(encoder)
    assert (dict(store.fingerprints()), dict(store.filling())) == ({}, {})
    with pytest.raises(StoreError, match=r"no tokens of encoder a{64} here\. .* has no tokens yet"):
        store.drop(ENCODER)
    with pytest.raises(StoreError, match="no tokens of encoder"):
        store.publish(ENCODER)
    assert len(store.namespace(ENCODER, SPEC, create=True)) == 0


def elsewhere(path: Path, step: str, encoder: str) -> None:
    """Publishes or drops in another process: this one has the store open, which LMDB allows once."""
    program = (
        "import sys; from rankport.runtime.store.opening import open_store\n"
        "with open_store(sys.argv[1]) as store: getattr(store, sys.argv[2])(sys.argv[3])"
    )
    subprocess.run([sys.executable, "-c", program, str(path), step, encoder], check=True)
