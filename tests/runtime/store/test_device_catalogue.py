"""Which item lies where in a table: as the store has it, also after it changed, and no row of two items at a time."""

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.errors import BackendError, StoreError
from rankport.runtime.store.contract import TokenEntry, TokenNamespace, TokenStore
from rankport.runtime.store.device_catalogue import OwnedTable, ResidentTokens
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.records import storage_key
from rankport.runtime.store.token_spec import TokenSpec
from support.host_tables import HIDDEN, Table, find
from support.snapshots import write_snapshot

ENCODER, K = "e" * 64, 2
SOON_S, NEVER_S = 0.01, 3600.0


def tokens_of(number: int) -> NDArray[np.float16]:
    return np.full((K, HIDDEN), number, np.float16) + np.arange(K, dtype=np.float16)[:, None] / 4


def put(namespace: TokenNamespace, items: dict[str, int]) -> None:
    namespace.put_many(
        [TokenEntry(key, tokens_of(number), bytes([number]) * 16) for key, number in items.items()]
    )


@pytest.fixture
def namespace(store: TokenStore) -> TokenNamespace:
    made = store.namespace(ENCODER, TokenSpec(K, HIDDEN, "float16"), create=True)
    put(made, {f"key{number}": number for number in range(5)})
    return made


@pytest.fixture
def load(namespace: TokenNamespace) -> Iterator[Callable[..., ResidentTokens]]:
    made = []

    def load(*tables: Table, refresh_s: float = SOON_S) -> ResidentTokens:
        places = {gpu: OwnedTable(table, table.call) for gpu, table in enumerate(tables)}
        made.append(ResidentTokens(namespace, places, refresh_s))
        return made[-1]

    yield load
    for resident in made:
        resident.close()


Load = Callable[..., ResidentTokens]
CORRUPT = """
import sys, lmdb
path, database, name, place = sys.argv[1], *map(bytes.fromhex, sys.argv[2:4]), int(sys.argv[4])
with lmdb.open(path, max_dbs=8) as env, env.begin(write=True) as txn:
    items = env.open_db(database, txn=txn, create=False)
    value = bytearray(txn.get(name, db=items))
    value[place] ^= 1
    txn.put(name, bytes(value), db=items)
"""


def corrupt(store: Path, key: str, place: int) -> None:
    """Flips a bit of the value of `key`, from another process: one process opens a store once."""
    names = (f"tokens/{ENCODER}".encode().hex(), storage_key(key).hex())
    subprocess.run([sys.executable, "-c", CORRUPT, str(store), *names, str(place)], check=True)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.005)


def test_every_table_holds_the_stores_tokens_at_the_same_rows(load: Load) -> None:
    one, other = Table(10), Table(12)
    resident = load(one, other, refresh_s=NEVER_S)
    found = find(resident, [f"key{number}" for number in range(5)])
    for number, place in enumerate(found):
        np.testing.assert_array_equal(one.holds(place), tokens_of(number))
        np.testing.assert_array_equal(other.holds(place), tokens_of(number))
    assert one.writes == 1  # places beside each other
    assert find(resident, ["none", ""]) == [None, None]
    assert len(resident) == 5


def test_what_has_no_room_is_not_there(load: Load) -> None:
    resident = load(Table(3 * K + 1), refresh_s=NEVER_S)
    found = find(resident, [f"key{number}" for number in range(5)])
    assert [place is not None for place in found] == [True, True, True, False, False]


def test_changes_of_the_store_are_followed(load: Load, namespace: TokenNamespace) -> None:
    table = Table(6 * K)
    resident = load(table)
    before = find(resident, ["key1"])[0]
    put(namespace, {"key1": 101, "key9": 109})
    until(lambda: find(resident, ["key9"])[0] is not None)
    until(lambda: bool((table.holds(before) == tokens_of(101)).all()))  # in its place
    np.testing.assert_array_equal(table.holds(find(resident, ["key9"])[0]), tokens_of(109))
    namespace.delete_many(["key2"])
    until(lambda: find(resident, ["key2"]) == [None])
    assert find(resident, ["key1"])[0] is not None


def test_a_row_is_given_to_another_item_only_when_nobody_refers_to_it(
    load: Load, namespace: TokenNamespace
) -> None:
    table = Table(5 * K)
    resident = load(table)
    kept = find(resident, ["key3"])
    namespace.delete_many(["key3"])
    until(lambda: find(resident, ["key3"]) == [None])
    put(namespace, {"key7": 7})  # there is no other room
    looked = namespace.version()
    until(lambda: resident.scanned_version == looked)
    assert find(resident, ["key7"]) == [None]
    np.testing.assert_array_equal(table.holds(kept[0]), tokens_of(3))
    kept.clear()
    gc.collect()
    until(lambda: find(resident, ["key7"])[0] is not None)
    np.testing.assert_array_equal(table.holds(find(resident, ["key7"])[0]), tokens_of(7))


def test_a_corrupt_value_is_left_to_the_store_to_tell_of(
    load: Load, namespace: TokenNamespace, tmp_path: Path
) -> None:
    table = Table(5 * K)
    resident = load(table)
    corrupt(tmp_path / "tokens", "key2", 20)
    until(lambda: find(resident, ["key2"]) == [None])
    assert all(find(resident, ["key0", "key4"]))


def test_it_ends_with_the_engine_and_goes_on_after_an_error_of_the_store(
    load: Load, namespace: TokenNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    table = Table(5 * K)
    resident = load(table)

    def fails() -> int:
        raise StoreError("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(namespace, "version", fails)
        until(lambda: "the disk is gone" in caplog.text)
    put(namespace, {"key0": 50})
    until(lambda: bool((table.holds(find(resident, ["key0"])[0]) == tokens_of(50)).all()))
    table.closed = True
    put(namespace, {"key0": 60})
    until(lambda: not resident.alive)


def test_an_engine_that_stopped_is_left_out_and_the_others_are_kept(
    load: Load, namespace: TokenNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    dead, alive = Table(6 * K), Table(6 * K)
    resident = load(dead, alive)
    dead.closed = True
    put(namespace, {"key1": 101})
    namespace.delete_many(["key2"])
    until(lambda: find(resident, ["key2"]) == [None])
    np.testing.assert_array_equal(alive.holds(find(resident, ["key1"])[0]), tokens_of(101))
    assert "tokens in the memory of GPU 0 are no longer kept" in caplog.text


def test_a_write_that_fails_costs_no_room_and_is_made_again(
    load: Load, namespace: TokenNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    table = Table(7 * K)
    resident = load(table)
    table.fails = BackendError("the copy failed")
    put(namespace, {"key5": 5, "key6": 6})
    until(lambda: caplog.text.count("the copy failed") > 5)
    assert find(resident, ["key5", "key6"]) == [None, None]
    table.fails = None
    until(lambda: all(find(resident, ["key5", "key6"])))
    np.testing.assert_array_equal(table.holds(find(resident, ["key6"])[0]), tokens_of(6))


def test_an_error_of_the_store_in_a_look_loses_no_item(
    load: Load, namespace: TokenNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    table = Table(7 * K)
    resident = load(table)

    def fails(keys: object, **options: object) -> None:
        raise StoreError("the disk is away")

    with monkeypatch.context() as patched:
        patched.setattr(namespace, "get_many", fails)
        put(namespace, {"key0": 50, "key5": 5})
        until(lambda: caplog.text.count("the disk is away") > 2)
        assert find(resident, ["key0"])[0] is not None
    until(lambda: find(resident, ["key5"])[0] is not None)
    until(lambda: bool((table.holds(find(resident, ["key0"])[0]) == tokens_of(50)).all()))


def test_a_look_that_finds_nothing_else_leaves_the_device_alone(
    load: Load, store: TokenStore, namespace: TokenNamespace
) -> None:
    table = Table(7 * K)
    resident = load(table)
    writes = table.writes
    store.namespace("f" * 64, TokenSpec(1, 1, "float16"), create=True)  # a write to the store, not of these
    looked = namespace.version()
    until(lambda: resident.scanned_version == looked)
    assert table.writes == writes


def test_it_closes_while_an_engine_answers_no_more(load: Load, namespace: TokenNamespace) -> None:
    table = Table(7 * K)
    resident = load(table)
    table.stuck, before = True, table.calls
    put(namespace, {"key0": 50})
    until(lambda: table.calls > before)
    closing = threading.Thread(target=resident.close, daemon=True)
    closing.start()
    closing.join(20)
    assert not closing.is_alive()


def test_a_corrupt_long_key_costs_the_others_nothing(
    load: Load, namespace: TokenNamespace, tmp_path: Path
) -> None:
    long = "long" * 200
    put(namespace, {long: 9})
    corrupt(tmp_path / "tokens", long, -1)
    resident = load(Table(7 * K), refresh_s=NEVER_S)
    assert find(resident, [long]) == [None]
    assert all(find(resident, [f"key{number}" for number in range(5)]))


def test_a_snapshot_is_held_and_one_that_replaces_it_is_followed(tmp_path: Path) -> None:
    spec = TokenSpec(K, HIDDEN, "float16")
    write_snapshot(tmp_path, {"a": tokens_of(1), "b": tokens_of(2)}, spec, ENCODER)
    table = Table(4 * K)
    with open_store(tmp_path, read_only=True) as store:
        resident = ResidentTokens(store.namespace(ENCODER), {0: OwnedTable(table, table.call)}, SOON_S)
        try:
            np.testing.assert_array_equal(table.holds(find(resident, ["b"])[0]), tokens_of(2))
            write_snapshot(tmp_path, {"b": tokens_of(3)}, spec, ENCODER, content_hash=bytes(16))
            until(lambda: find(resident, ["a"]) == [None])
            np.testing.assert_array_equal(table.holds(find(resident, ["b"])[0]), tokens_of(3))
        finally:
            resident.close()
