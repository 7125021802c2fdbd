"""A real Redis, a store, and consumers of a stream between them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rankport.runtime.jobs.encode_job import namespace_of
from rankport.runtime.store.contract import TokenNamespace
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.redis_store.connection import RedisConnection
from rankport.runtime.store.redis_store.location import RedisLocation
from support.hash_encoder import HashEncoder
from support.jobs.changes import Consumers
from support.servers.redis_server import RedisServer, redis_server


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    with running.client() as client:
        client.flushall()
    return running


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[TokenNamespace]:
    with open_store(tmp_path / "store", create=True) as store:
        yield namespace_of(store, HashEncoder())


@pytest.fixture
def connection(server: RedisServer) -> Iterator[RedisConnection]:
    connection = RedisConnection(RedisLocation.parse(server.url), 1.0)
    yield connection
    connection.close()


@pytest.fixture
def changes(
    server: RedisServer, connection: RedisConnection, namespace: TokenNamespace
) -> Iterator[Consumers]:
    consumers = Consumers(server, connection, namespace)
    yield consumers
    consumers.redis.close()
