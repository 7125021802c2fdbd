"""Fixtures of token stores in Redis: one server a module, emptied for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rankport.runtime.store.contract import TokenNamespace, TokenStore
from rankport.runtime.store.opening import open_store
from support.servers.redis_server import RedisServer, redis_server
from support.token_samples import ENCODER, SPEC


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    """A server without keys."""
    with running.client() as client:
        client.flushall()
    return running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def store(server: RedisServer) -> Iterator[TokenStore]:
    """An empty store."""
    with open_store(server.url, create=True) as store:
        yield store


@pytest.fixture
def namespace(store: TokenStore) -> TokenNamespace:
    """The sample encoder's namespace in `store`, empty."""
    return store.namespace(ENCODER, SPEC, create=True)
