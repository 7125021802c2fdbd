"""Tokens in a real Redis: what is put comes back by its key, under the stated names; faults are named."""

import signal
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import redis

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.runtime.store.contract import TokenEntry, TokenNamespace, TokenStore
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.redis_store.connection import RedisConnection
from rankport.runtime.store.redis_store.location import RedisLocation
from rankport.runtime.store.redis_store.store import WRITER_RETRY_S
from rankport.runtime.store.token_spec import TokenSpec
from support.servers.redis_server import RedisServer, redis_server
from support.token_samples import ENCODER, HASH, SPEC, entry, tokens_of

LONG = "k" * 600


def test_keys_and_values_are_those_of_the_stated_layout(
    server: RedisServer, namespace: TokenNamespace
) -> None:
    namespace.put_many([entry("one", 1), entry(LONG, 2)])
    with server.client() as client:
        assert client.hgetall("rankport:meta") == {
            b"format": b'{"format":"rankport-token-store","format_version":1}',
            ENCODER.encode(): b'published {"dtype":"float16","hidden_size":4,"tokens":2}',
        }
        value = client.get(f"rankport:t:{ENCODER}:one")
        assert isinstance(value, bytes)
        assert value[40:] == tokens_of(1).tobytes()
        [long] = client.keys("rankport:h:*")
        assert len(long) == len(f"rankport:h:{ENCODER}:") + 64


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_what_does_not_replace_leaves_what_is_there(namespace: TokenNamespace, seconds: float | None) -> None:
    namespace.put_many([entry("a", 2)])
    fence = None if seconds is None else namespace.fence(["a", "b"], seconds)
    namespace.put_many([entry("a", 1), entry("b", 1)], fence=fence, replace=False)
    assert namespace.read(["a", "b"]).tokens[:, 0, 0].tolist() == [2, 1]
    namespace.put_many([entry("a", 3)])
    assert namespace.read(["a"]).tokens[:, 0, 0].tolist() == [3]


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_every_key_and_bit_come_back(server: RedisServer, store: TokenStore, dtype: str) -> None:
    spec = TokenSpec(2, 4, dtype)
    namespace = store.namespace(ENCODER, spec, create=True)
    chance = np.random.default_rng(3)
    keys = [*(f"k{number}" for number in range(1200)), "{tag}", "ключ", "a:b*c[d]?", LONG]
    tokens = chance.standard_normal((len(keys), 2, 4)).astype(spec.numpy_dtype)
    hashes = [chance.bytes(16) for _ in keys]
    namespace.put_many([TokenEntry(*each) for each in zip(keys, tokens, hashes, strict=True)])
    for asked in (keys[:1100], keys, keys[::-1]):
        stored = namespace.read(["absent", *asked])
        assert stored.places.tolist() == list(range(1, len(asked) + 1))
        order = [keys.index(key) for key in asked]
        np.testing.assert_array_equal(stored.tokens, spec.as_read(tokens)[order])
    assert namespace.content_hashes(["absent", *keys]) == [None, *hashes]
    assert sorted(namespace.keys()) == sorted(keys)
    with server.client() as client:
        client.config_resetstat()
        assert len(namespace) == len(keys)
        commands = {name for name in client.info("commandstats") if name.startswith("cmdstat_")}
    assert {name.partition("|")[0] for name in commands} <= {"cmdstat_scan", "cmdstat_config", "cmdstat_info"}
    assert namespace.delete_many(["k1", "absent", LONG]) == 2
    assert len(namespace) == len(keys) - 2
    assert namespace.read([LONG]).places.tolist() == []


def test_mark_differs_where_tokens_were_written_anew(namespace: TokenNamespace) -> None:
    namespace.put_many([entry("a"), entry("b")])
    before = {written.key: written.mark for page in namespace.pages() for written in page}
    namespace.put_many([entry("b", 1)])
    after = {written.key: written.mark for page in namespace.pages() for written in page}
    assert after["a"] == before["a"]
    assert after["b"] != before["b"]


def test_corrupt_value_is_named_skipped_where_asked_and_no_hash_of_it_trusted(
    server: RedisServer, namespace: TokenNamespace
) -> None:
    namespace.put_many([entry("a"), entry("b", 1)])
    with server.client() as client:
        client.setrange(f"rankport:t:{ENCODER}:a", 45, b"!")
    with pytest.raises(StoreError, match=r"'a' .* is corrupt: the checksum"):
        namespace.read(["a", "b"])
    assert namespace.read(["a", "b"], skip_corrupt=True).places.tolist() == [1]
    assert namespace.content_hashes(["a", "b"]) == [None, HASH]


def test_version_tells_a_write_of_another_process_and_a_flush(
    server: RedisServer, namespace: TokenNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rankport.runtime.store.redis_store.batches.VERSION_STALE_S", 0.0)
    seen = [namespace.version()]
    with open_store(server.url) as other:
        other.namespace(ENCODER).put_many([entry("a")])
    seen.append(namespace.version())
    assert namespace.version() == seen[-1]
    namespace.put_many([entry("a")])
    seen.append(namespace.version())
    with server.client() as client:
        client.flushall()
    seen.append(namespace.version())
    assert len(set(seen[1:])) == 3
    assert seen[0] == 0


def test_version_asks_redis_no_more_than_it_says(server: RedisServer, namespace: TokenNamespace) -> None:
    namespace.version()
    with server.client() as client:
        before = client.info("commandstats")["cmdstat_get"]["calls"]
        for _ in range(100):
            namespace.version()
        assert client.info("commandstats")["cmdstat_get"]["calls"] - before <= 1


def test_flush_under_a_reader_and_a_writer_is_told(server: RedisServer, namespace: TokenNamespace) -> None:
    namespace.put_many([entry("a")])
    with server.client() as client:
        client.flushall()
    with pytest.raises(StoreError, match=f"the tokens of encoder {ENCODER} are gone"):
        namespace.read(["a"])
    with pytest.raises(StoreError, match="are gone"):
        namespace.put_many([entry("b")])
    assert not namespace.alive


def test_batches_lost_after_they_were_confirmed_are_told(
    server: RedisServer, namespace: TokenNamespace
) -> None:
    namespace.put_many([entry("a")])
    namespace.put_many([entry("b")])
    with server.client() as client:  # as a replica does that takes over without the last batch
        [writer] = client.keys("rankport:writer:*")
        client.set(writer, 1)
        client.delete(f"rankport:t:{ENCODER}:b")
    with pytest.raises(StoreError, match="Redis lost 1 of 2 batches that it had confirmed"):
        namespace.put_many([entry("c")])
    namespace.put_many([entry("b")])


def no_answer(connection: RedisConnection, commands: Sequence[object]) -> list[object]:
    raise StoreError(f"no answer to {len(commands)} commands")


@pytest.mark.parametrize("tries", [0, 3], ids=["idle", "Redis away"])
def test_writer_that_wrote_nothing_for_long_lost_nothing(
    server: RedisServer, namespace: TokenNamespace, monkeypatch: pytest.MonkeyPatch, tries: int
) -> None:
    namespace.put_many([entry("a")])
    with server.client() as client:
        [writer] = client.keys("rankport:writer:*")
        assert 0 < client.ttl(writer) <= 86_400
        client.delete(writer)  # as it expires
    clock, later_s = time.clock_gettime, 86_400.0
    monkeypatch.setattr(time, "clock_gettime", lambda which: clock(which) + later_s)
    for tried in range(tries):  # all along
        later_s = (tried + 1) * 86_400 / (tries + 1)
        with monkeypatch.context() as away:
            away.setattr(RedisConnection, "run", no_answer)
            with pytest.raises(StoreError, match="no answer"):
                namespace.put_many([entry("b")])
    later_s = 86_400.0
    namespace.put_many([entry("b")])
    assert sorted(namespace.keys()) == ["a", "b"]


def test_hidden_tokens_show_once_published_and_go_once_dropped(server: RedisServer) -> None:
    with open_store(server.url, create=True) as store, open_store(server.url, read_only=True) as reader:
        store.namespace(ENCODER, SPEC, create=True, filling=True).put_many([entry("a", 1)])
        with pytest.raises(StoreError, match="are not published yet"):
            reader.namespace(ENCODER)
        store.publish(ENCODER)
        [found] = reader.namespace(ENCODER).get_many(["a"])
        np.testing.assert_array_equal(found, tokens_of(1))
        store.drop(ENCODER)
        assert store.fingerprints() == {}
        with server.client() as client:
            assert client.keys("rankport:[th]:*") == []


def test_time_to_live_is_of_every_item_and_not_of_the_namespace(server: RedisServer) -> None:
    with open_store(f"{server.url}?ttl=7d&prefix=shop", create=True) as store, server.client() as client:
        store.namespace(ENCODER, SPEC, create=True).put_many([entry("a")])
        assert 6 * 86_400 < client.ttl(f"shop:t:{ENCODER}:a") <= 7 * 86_400
        assert client.ttl("shop:meta") == client.ttl("shop:version") == -1


def test_store_that_is_not_there_or_of_another_format_is_refused(server: RedisServer) -> None:
    with pytest.raises(StoreError, match=r"no token store at unix://.* with prefix 'rankport'"):
        open_store(server.url)
    with server.client() as client:
        client.hset("rankport:meta", "format", "else")
    with pytest.raises(StoreError, match="has format b'else'"):
        open_store(server.url, create=True)
    with pytest.raises(InvalidRequest, match="frozen goes with"):
        open_store(server.url, frozen=True)


def test_reader_does_not_write(server: RedisServer, namespace: TokenNamespace) -> None:
    with open_store(server.url, read_only=True) as reader:
        assert not reader.namespace(ENCODER).writable
        with pytest.raises(StoreError, match="is open to be read"):
            reader.namespace(ENCODER).put_many([entry("a")])
        with pytest.raises(StoreError, match="is open to be read"):
            reader.namespace(ENCODER).delete_many(["a"])


def test_no_server_is_told_with_its_address() -> None:
    with pytest.raises(StoreError, match=r"redis://127\.0\.0\.1:1/0\?retry_s=0\.01: no answer of Redis"):
        open_store("redis://127.0.0.1:1/0?retry_s=0.01")


def test_a_writer_that_starts_does_not_wait_for_a_dead_or_a_silent_redis(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(
        StoreError, match=r"redis://127\.0\.0\.1:1/0: no answer of Redis.*is that its address"
    ):
        open_store("redis://127.0.0.1:1/0", create=True)
    assert time.monotonic() - began < WRITER_RETRY_S  # as long as work would have waited
    with redis_server(tmp_path) as server:
        server.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(StoreError, match="no answer of Redis"):
            open_store(server.url, create=True)
        assert time.monotonic() - began < WRITER_RETRY_S  # as long as work would have waited


def test_a_writer_that_starts_waits_as_long_as_its_url_says(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        server.kill()
        back = threading.Timer(3.0, server.start)  # past what a start waits by itself
        back.start()
        with open_store(f"{server.url}?retry_s=120", create=True) as store:
            assert store.fingerprints() == {}
        back.join()


def test_a_writer_at_work_waits_for_a_redis_that_restarts(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, open_store(server.url, create=True) as store:
        namespace = store.namespace(ENCODER, SPEC, create=True)
        server.kill()
        back = threading.Timer(3.0, server.start)
        back.start()
        namespace.put_many([entry("a", 1)])
        back.join()
        np.testing.assert_array_equal(namespace.read(["a"]).tokens, [tokens_of(1)])


def test_reader_is_told_that_redis_is_away_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, open_store(server.url, create=True) as store:
        store.namespace(ENCODER, SPEC, create=True).put_many([entry("a", 1)])
        with open_store(f"{server.url}?retry_s=0.05", read_only=True) as reader:
            namespace = reader.namespace(ENCODER)
            server.kill()
            assert not namespace.alive
            with pytest.raises(StoreError, match="no answer of Redis"):
                namespace.read(["a"])
            server.start()
            np.testing.assert_array_equal(namespace.read(["a"]).tokens, [tokens_of(1)])


def test_login_memory_and_eviction_are_told(tmp_path: Path) -> None:
    secret = "s:e#c@r/et"
    options = (f"--requirepass {secret}", "--maxmemory 2mb", "--maxmemory-policy noeviction")
    with redis_server(tmp_path, *options) as server:
        for url in (server.url, server.url.replace("unix://", "unix://:guess@")):
            with pytest.raises(StoreError, match="Redis refuses the login") as told:
                open_store(url, create=True)
            assert "guess" not in str(told.value)
        file = tmp_path / "password"
        file.write_text(f"{secret}\n")
        open_store(f"{server.url}?password_file={file}", create=True).close()
        url = server.url.replace("unix://", f"unix://:{quote(secret, safe='')}@")
        assert "et@" not in repr(RedisLocation.parse(url))
        with open_store(url, create=True) as store:
            namespace = store.namespace(ENCODER, TokenSpec(2, 4096, "float32"), create=True)
            zeros = np.zeros((2, 4096), np.float32)
            batches = ([TokenEntry(f"{n} {m}", zeros, HASH) for m in range(10)] for n in range(30))
            with pytest.raises(StoreError, match=r"at its maxmemory \(command not allowed"):
                deque((namespace.put_many(batch) for batch in batches), maxlen=0)
            assert len(namespace) % 10 == 0
        with redis.Redis.from_url(url) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(StoreError, match="evicts keys when full"):
            open_store(url)
        open_store(f"{url}?eviction=accept").close()


def test_replica_that_is_only_read_is_told(server: RedisServer, namespace: TokenNamespace) -> None:
    with server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StoreError, match="replica that is only read"):
            namespace.put_many([entry("a")])
        client.execute_command("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("redis://h?prefix={a}", "prefix '{a}'"),
        ("redis://h?ttl=7", "ttl '7'"),
        ("redis://h?ttl=0d", "ttl '0d'"),
        ("redis://h?hosts=2", "option 'hosts'"),
        ("redis://h?ttl=1d&ttl=2d", "given twice"),
        ("redis://h:port", "Port"),
        ("redis:///0", "give redis://HOST"),
        ("s3://bucket", "give redis://HOST"),
        ("redis://u:p@h?password_file=f", "a password in the URL and password_file: leave one out"),
        ("redis://u@h?password_file=none", "password_file 'none' cannot be read: No such file"),
        ("redis://u@h?password_file=/dev/null", "password_file '/dev/null' is empty"),
        ("redis://", "store redis://: give redis://HOST"),
        ("redis://h/prod", "database 'prod': give a number from 0 on"),
        ("redis://h/0&frozen", "database '0&frozen'"),
        ("redis://h?db=-1", "database '-1'"),
        ("redis://h/1?db=2", "database 1 in the path and 2 in db: leave one out"),
        ("redis://h/0#1", "in a password write %23"),
        ("redis://u:sec/ret@h/0", r"store redis://u:\*\*\*@h"),
        ("redis://u:secret@h?timeout_s=0", r"redis://u:\*\*\*@h.*timeout_s '0'"),
    ],
)
def test_url_that_is_wrong_is_told(given: str, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told) as error:
        open_store(given)
    assert "secret" not in str(error.value)
    assert "sec/ret" not in str(error.value)
