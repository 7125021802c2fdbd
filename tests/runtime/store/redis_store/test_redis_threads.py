"""Several threads and several encoders over one connection to Redis."""

import os
import signal
import threading
from typing import Any

import pytest

from rankport.runtime.store.contract import TokenNamespace, TokenStore
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.redis_store.connection import RedisConnection
from rankport.runtime.store.redis_store.liveness import Liveness
from support.engines import WAIT_S, Clock
from support.servers.redis_server import RedisServer
from support.servers.supervised import eventually
from support.token_samples import ENCODER, SPEC, entry

OTHER = "f" * len(ENCODER)


def test_batches_whose_replies_overtake_each_other_are_not_lost(
    namespace: TokenNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, run = threading.Event(), RedisConnection.run

    def put_second() -> None:
        namespace.put_many([entry("b")])
        answered.set()

    second = threading.Thread(target=put_second)

    def overtaken(connection: RedisConnection, commands: Any) -> list[Any]:
        replies = run(connection, commands)
        if second.ident is None:
            second.start()
            assert answered.wait(WAIT_S)
        return replies

    monkeypatch.setattr(RedisConnection, "run", overtaken)
    namespace.put_many([entry("a")])
    second.join()
    namespace.put_many([entry("c")])
    assert sorted(namespace.keys()) == ["a", "b", "c"]


def test_each_encoders_tokens_are_looked_at_for_themselves(server: RedisServer, store: TokenStore) -> None:
    store.namespace(ENCODER, SPEC, create=True)
    store.namespace(OTHER, SPEC, create=True)
    with open_store(server.url, read_only=True) as reader:
        namespaces = [reader.namespace(fingerprint) for fingerprint in (ENCODER, OTHER)]
        with server.client() as client:
            client.hdel("rankport:meta", OTHER)
        eventually(lambda: not namespaces[1].alive)  # a look that takes its time is not waited for
        assert namespaces[0].alive


def test_who_asks_does_not_wait_for_a_redis_that_is_silent(server: RedisServer, store: TokenStore) -> None:
    store.namespace(ENCODER, SPEC, create=True)
    with open_store(f"{server.url}?timeout_s=2", read_only=True) as reader:
        namespace = reader.namespace(ENCODER)
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            assert namespace.alive  # as far as is known
        finally:
            os.kill(server.process.pid, signal.SIGCONT)


def test_who_asks_seldom_waits_for_the_end_of_a_look() -> None:
    clock, slow = Clock(), threading.Event()

    def look() -> str:
        slow.wait(0.2)  # longer than who asks often would wait
        return "no answer"

    liveness = Liveness(look, "Redis", clock)
    clock.now_s = 60.0
    assert not liveness.good()
