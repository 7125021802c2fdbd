"""Consumers that are stopped in the midst for longer than their lease: they write over nothing newer."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.errors import Unavailable
from rankport.protos.types import Truncation
from rankport.runtime.jobs.encode_job import namespace_of
from rankport.runtime.nearline.config import NearlineConfig
from rankport.runtime.nearline.consumer import NearlineConsumer
from rankport.runtime.nearline.stream import ChangeStream
from rankport.runtime.store.contract import TokenNamespace
from rankport.runtime.store.entries import Fence, LateWriteError, TokenEntry
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.redis_store.connection import RedisConnection
from rankport.runtime.store.redis_store.location import RedisLocation
from support.hash_encoder import HashEncoder
from support.jobs.encode_jobs import stored
from support.servers.redis_server import RedisServer, redis_server

Pause = Callable[[], None]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["lmdb", "redis"])
def namespace(
    request: pytest.FixtureRequest, running: RedisServer, tmp_path: Path
) -> Iterator[TokenNamespace]:
    with running.client() as client:
        client.flushall()
    location = running.url if request.param == "redis" else tmp_path / "store"
    with open_store(location, create=True) as store:
        yield namespace_of(store, HashEncoder())


class StoppedWriter:
    """Namespace whose writer is stopped between its look at its right to write and the write."""

    def __init__(self, namespace: TokenNamespace, pause: Pause) -> None:
        self._namespace, self._pause = namespace, pause
        self.spec, self.alive = namespace.spec, True
        self.content_hashes, self.prolong = namespace.content_hashes, namespace.prolong

    def fence(self, keys: Sequence[str], seconds: float) -> Fence:
        return self._namespace.fence(keys, 0.0)  # over before the pause is

    def put_many(self, entries: Sequence[TokenEntry], *, fence: Fence | None = None) -> None:
        self._pause()
        self._namespace.put_many(entries, fence=fence)

    def delete_many(self, keys: Sequence[str], *, fence: Fence | None = None) -> int:
        self._pause()
        return self._namespace.delete_many(keys, fence=fence)


class WriterStoppedBehind(StoppedWriter):
    """Namespace whose writer is stopped behind the write, before anybody hears that it is done."""

    def fence(self, keys: Sequence[str], seconds: float) -> Fence:
        return self._namespace.fence(keys, seconds)

    def put_many(self, entries: Sequence[TokenEntry], *, fence: Fence | None = None) -> None:
        self._namespace.put_many(entries, fence=fence)
        self._pause()

    def delete_many(self, keys: Sequence[str], *, fence: Fence | None = None) -> int:
        count = self._namespace.delete_many(keys, fence=fence)
        self._pause()
        return count


class StoppedEncoder(HashEncoder):
    """Encoder whose consumer is stopped while it encodes."""

    def __init__(self, pause: Pause) -> None:
        super().__init__()
        self._pause = pause

    def encode(self, texts: Sequence[str], /, *, truncation: Truncation = "error") -> NDArray[np.floating]:
        self._pause()
        return super().encode(texts, truncation=truncation)


class AwayOnce(HashEncoder):
    """Encoder that cannot be reached where it is said to be away, once."""

    away = False

    def encode(self, texts: Sequence[str], /, *, truncation: Truncation = "error") -> NDArray[np.floating]:
        if self.away:
            self.away = False
            raise Unavailable("the server is away")
        return super().encode(texts, truncation=truncation)


class Consumers:
    """Consumers of one stream."""

    def __init__(self, server: RedisServer, namespace: TokenNamespace) -> None:
        self.redis, self._namespace = server.client(), namespace
        self._connection = RedisConnection(RedisLocation.parse(server.url), 1.0)
        self.consumer("two")  # which makes the group

    def consumer(
        self, name: str, namespace: object = None, encoder: HashEncoder | None = None
    ) -> NearlineConsumer:
        stream = ChangeStream(self._connection, "items", "g", name)
        stream.ensure_group()
        config = NearlineConfig(group="g", consumer=name, max_wait_s=0.0, max_batch_items=8)
        chosen = namespace or self._namespace
        return NearlineConsumer(encoder or HashEncoder(), chosen, stream, config)  # type: ignore[arg-type]

    def overtaken(self, *changes: dict[str, str | int]) -> Pause:
        """Makes a pause in which the lease runs out, and another consumer does these changes; the first one alone."""
        left = [changes]

        def pause() -> None:
            for fields in left.pop() if left else ():
                self.redis.delete("{items}:g:leases")
                self.redis.xadd("items", fields)  # type: ignore[arg-type]
                self.consumer("two").step()

        return pause

    def pending(self) -> int:
        return int(self.redis.xpending("items", "g")["pending"])

    def close(self) -> None:
        self.redis.close()
        self._connection.close()


@pytest.fixture
def consumers(running: RedisServer, namespace: TokenNamespace) -> Iterator[Consumers]:
    made = Consumers(running, namespace)
    yield made
    made.close()


def tokens_of(text: str) -> bytes:
    return HashEncoder().encode([text])[0].tobytes()


@pytest.mark.parametrize("change", [{"text": "old"}, {"op": "delete"}], ids=["put", "delete"])
@pytest.mark.parametrize(
    ("newer", "left"),
    [({"text": "new"}, {"a": tokens_of("new")}), ({"op": "delete"}, {})],
    ids=["put", "deleted"],
)
def test_stopped_writer_writes_over_nothing_newer(
    consumers: Consumers,
    namespace: TokenNamespace,
    change: dict[str, str],
    newer: dict[str, str],
    left: dict[str, bytes],
) -> None:
    consumers.redis.xadd("items", {"id": "a", "version": 1, **change})  # type: ignore[dict-item]
    pause = consumers.overtaken({"id": "a", "version": 2, **newer})
    stopped = consumers.consumer("one", StoppedWriter(namespace, pause))
    stopped.step()
    assert stored(namespace) == left
    assert consumers.pending() == 1
    stopped.step()
    assert stopped.counts.stale == 1
    assert consumers.pending() == 0


@pytest.mark.parametrize(
    ("newer", "left"),
    [({"text": "new"}, {"a": tokens_of("new")}), ({"op": "delete"}, {})],
    ids=["put", "delete"],
)
def test_older_change_that_was_written_over_a_stopped_one_is_written_over_again(
    consumers: Consumers, namespace: TokenNamespace, newer: dict[str, str], left: dict[str, bytes]
) -> None:
    consumers.redis.xadd("items", {"id": "a", "version": 2, **newer})  # type: ignore[dict-item]
    pause = consumers.overtaken({"id": "a", "version": 1, "text": "old"})
    stopped = consumers.consumer("one", WriterStoppedBehind(namespace, pause))
    stopped.step()
    assert consumers.pending() == 1
    stopped.step()
    assert stored(namespace) == left
    assert consumers.pending() == 0


def test_item_of_a_consumer_whose_time_is_up_is_written_though_it_is_unchanged_so_far(
    consumers: Consumers, namespace: TokenNamespace
) -> None:
    encoder = AwayOnce()
    consumer = consumers.consumer("two", encoder=encoder)
    for version, holder in enumerate(("", "stalled", ""), 1):
        consumers.redis.xadd("items", {"id": "a", "text": "same", "version": version})
        if holder:  # till a moment long ago
            consumers.redis.hset("{items}:g:leases", "a", f"1 {holder}")
            encoder.away = True
            with pytest.raises(Unavailable):
                consumer.step()
        consumer.step()
    assert (consumer.counts.encoded, consumer.counts.unchanged) == (2, 1)
    assert consumers.pending() == 0


def test_item_found_unchanged_is_looked_at_again_where_another_wrote_it_meanwhile(
    consumers: Consumers, namespace: TokenNamespace
) -> None:
    consumers.redis.xadd("items", {"id": "a", "text": "same", "version": 1})
    consumers.consumer("two").step()
    consumers.redis.xadd("items", {"id": "a", "text": "same", "version": 3})  # as the store has it
    consumers.redis.xadd("items", {"id": "b", "text": "slow to encode", "version": 1})
    between = consumers.overtaken({"id": "a", "text": "other", "version": 2})
    stopped = consumers.consumer("one", encoder=StoppedEncoder(between))
    stopped.step()
    stopped.step()
    assert stored(namespace) == {"a": tokens_of("same"), "b": tokens_of("slow to encode")}
    assert consumers.pending() == 0


def test_write_that_is_late_stores_nothing(namespace: TokenNamespace) -> None:
    tokens = HashEncoder().encode(["x"])[0]
    entries = [TokenEntry(key, tokens, bytes(16)) for key in ("a", "b")]
    with pytest.raises(LateWriteError):
        namespace.put_many(entries, fence=namespace.fence(["a", "b"], 0.0))
    assert not stored(namespace)
    namespace.put_many(entries, fence=namespace.fence(["a", "b"], 60.0))
    with pytest.raises(LateWriteError):
        namespace.delete_many(["a"], fence=namespace.fence(["a"], 0.0))
    assert namespace.delete_many(["a"], fence=namespace.fence(["a"], 60.0)) == 1
    assert list(stored(namespace)) == ["b"]
