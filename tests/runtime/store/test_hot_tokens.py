"""`HotTokens`: answers what the store answers, whatever is in memory and whatever is written meanwhile."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import StoreError
from rankport.runtime.store.contract import TokenNamespace, TokenStore
from rankport.runtime.store.hot_tokens import HotTokens, StoreCounts
from rankport.runtime.store.opening import open_store
from support.effort import scale
from support.token_samples import ENCODER, SPEC, entry, raw_put

KEYS = [f"item{number}" for number in range(6)]


def same(hot: HotTokens, namespace: TokenNamespace, keys: list[str]) -> bool:
    """Whether both give the same tokens at the same places."""
    mine, theirs = hot.read(keys), namespace.read(keys)
    return mine.tokens.tobytes() == theirs.tokens.tobytes() and mine.places.tolist() == theirs.places.tolist()


@settings(max_examples=scale(40))
@given(
    st.integers(0, 8),
    st.lists(
        st.one_of(
            st.lists(st.sampled_from(KEYS), max_size=8),
            st.tuples(st.sampled_from(KEYS), st.integers(0, 50)),
            st.sampled_from(KEYS),
        ),
        max_size=12,
    ),
)
def test_reads_are_the_stores_through_writes_and_deletions(
    namespace: TokenNamespace, room: int, steps: list[list[str] | tuple[str, int] | str]
) -> None:
    namespace.delete_many(list(namespace.keys()))
    hot = HotTokens(namespace, room * SPEC.nbytes)
    for step in steps:
        if isinstance(step, tuple):
            namespace.put_many([entry(*step)])
        elif isinstance(step, str):
            namespace.delete_many([step])
        else:
            assert same(hot, namespace, step)
            assert len(hot) <= room


def test_keys_read_before_are_kept_and_the_oldest_make_room(namespace: TokenNamespace) -> None:
    namespace.put_many([entry(key, number) for number, key in enumerate(KEYS)])
    hot = HotTokens(namespace, 3 * SPEC.nbytes)
    hot.read(KEYS[:2])
    assert len(hot) == 2
    hot.read(KEYS)
    assert len(hot) == 3
    assert same(hot, namespace, KEYS)


def test_without_room_it_keeps_nothing(namespace: TokenNamespace) -> None:
    namespace.put_many([entry("a")])
    hot = HotTokens(namespace, SPEC.nbytes - 1)
    assert same(hot, namespace, ["a", "b"])
    assert len(hot) == 0


def test_tokens_cannot_be_changed_by_who_reads_them(namespace: TokenNamespace) -> None:
    namespace.put_many([entry("a")])
    hot = HotTokens(namespace, 8 * SPEC.nbytes)
    for _ in range(2):
        with pytest.raises(ValueError, match="read-only"):
            hot.read(["a"]).tokens[0] = 0


def test_a_corrupt_value_is_told_each_time(path: Path, store: TokenStore, namespace: TokenNamespace) -> None:
    namespace.put_many([entry("a")])
    store.close()
    raw_put(path, b"tokens/" + ENCODER.encode(), b"\x00bad", b"short")
    with open_store(path, read_only=True) as again:
        hot = HotTokens(again.namespace(ENCODER), 8 * SPEC.nbytes)
        for _ in range(2):
            with pytest.raises(StoreError, match="'bad'"):
                hot.read(["a", "bad"])
        assert same(hot, again.namespace(ENCODER), ["a"])


def test_what_was_written_before_a_read_is_read(namespace: TokenNamespace) -> None:
    """No reader sees tokens older than a write that had ended when it began, with a writer and readers at once."""
    hot, latest, stop = HotTokens(namespace, 4 * SPEC.nbytes), [0], threading.Event()
    namespace.put_many([entry("a", 0)])

    def read() -> bool:
        while not stop.is_set():
            least = latest[0]
            if hot.read(["a"]).tokens[0, 0, 0] < least:
                return False
        return True

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for number in range(scale(60)):
            namespace.put_many([entry("a", number)])
            latest[0] = number
        stop.set()
        assert all(reader.result() for reader in readers)


@pytest.mark.parametrize("room", [0, 1 << 20])
def test_keys_are_counted_by_where_their_tokens_were(namespace: TokenNamespace, room: int) -> None:
    namespace.put_many([entry("a"), entry("b")])
    hot = HotTokens(namespace, room)
    hot.read(["a", "b", "none"])
    hot.read(["a", "none"])
    found = 1 if room else 0  # "a", the second time
    assert hot.counts() == StoreCounts(
        host_keys=found, store_keys=3 - found, missing_keys=2, host_kept=2 if room else 0
    )


def test_tokens_that_others_stored_meanwhile_stay(namespace: TokenNamespace) -> None:
    hot = HotTokens(namespace, 2**10)
    assert not len(hot.read(["a", "b"]).places)
    namespace.put_many([entry("a", 2)])  # of a newer text than a request brought
    hot.put([entry("a", 1), entry("b", 1)])
    assert hot.read(["a", "b"]).tokens[:, 0, 0].tolist() == [2, 1]
