"""Engines of a host: those that its fronts let go have not died, and an answer that cannot be sent is an error."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import pytest

from rankport.protos.errors import RankportError
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.hosted_engine import HostedEngine
from rankport.runtime.kinds.ranker.engine import Engine
from rankport.runtime.kinds.remote.connection import Connection
from rankport.runtime.kinds.remote.messages import EngineOrder, nothing_counted
from rankport.runtime.links.columns import Columns
from rankport.runtime.scheduling.counts import EngineCounts
from rankport.runtime.scheduling.futures import resolved
from rankport.runtime.server.processes.engine_host import EngineHost
from support.engines import WAIT_S


def _nothing(request: Columns, tell: Any) -> "Future[Columns]":
    raise AssertionError("nobody asks")


class _Observed:
    """An engine whose counters are asked for: it calls `looked` then, unless a request's thread asks."""

    device = "cpu"

    def __init__(self, looked: Callable[[], object]) -> None:
        self._looked = looked
        self.alive, self.closed = True, threading.Event()

    def watch(self, tell: object) -> Callable[[], None]:
        return lambda: None

    def cache_stats(self) -> None:
        return None

    def counts(self) -> EngineCounts:
        if threading.current_thread().name == "rankport-engines-tell":
            self._looked()
        return nothing_counted("cpu")

    def close(self) -> None:
        self.alive = False
        self.closed.set()


def test_an_engine_that_is_let_go_while_they_are_looked_at_has_not_died(tmp_path: Path) -> None:
    path, looks = str(tmp_path / "engine"), threading.Semaphore(0)
    opened, died = threading.Event(), threading.Event()

    def die() -> None:
        died.set()
        looks.release(3)

    def let_go() -> None:
        assert opened.wait(WAIT_S)
        connections["gone"].close(0.0)
        assert engines["gone"].closed.wait(WAIT_S)

    engines = {"gone": _Observed(let_go), "kept": _Observed(looks.release)}
    host = EngineHost(
        path,
        EngineConfig(),
        die,
        lambda order, _: HostedEngine(cast(Engine, engines[order.path]), _nothing),
        hopeless_pass_s=WAIT_S,
    )
    connections = {name: Connection(path, EngineOrder(name, "", ""), 2**16) for name in engines}
    opened.set()
    assert engines["gone"].closed.wait(WAIT_S)
    for _ in range(3):  # of one look there are two at most
        assert looks.acquire(timeout=WAIT_S)
    assert not died.is_set()
    connections["kept"].close(0.0)
    host.close()


def test_an_engine_that_dies_is_seen_after_a_look_that_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, died, failures = str(tmp_path / "engine"), threading.Event(), [MemoryError("no memory")]

    def look() -> None:
        if failures:
            raise failures.pop()
        engine.alive = False

    engine = _Observed(look)
    host = EngineHost(path, EngineConfig(), died.set, lambda *_: HostedEngine(cast(Engine, engine), _nothing))
    connection = Connection(path, EngineOrder("", "", ""), 2**16)
    assert died.wait(WAIT_S)
    assert "the engines could not be looked at" in caplog.text
    connection.close(0.0)
    host.close()


def test_an_answer_that_cannot_be_sent_is_an_error_of_its_request(tmp_path: Path) -> None:
    path, engine = str(tmp_path / "engine"), cast(Engine, _Observed(lambda: None))
    unsent = Columns({"no value of JSON": object()})
    host = EngineHost(
        path, EngineConfig(), lambda: None, lambda *_: HostedEngine(engine, lambda *_: resolved(unsent))
    )
    connection = Connection(path, EngineOrder("", "", ""), 2**16)
    with pytest.raises(RankportError, match="TypeError"):
        connection.submit(Columns({"priority": "interactive"}), 1).result(WAIT_S)
    connection.close(0.0)
    host.close()


class _Freed(_Observed):
    """An engine whose device takes its time to be freed."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.closing, self.goes_on = threading.Event(), threading.Event()

    def close(self) -> None:
        self.closing.set()
        assert self.goes_on.wait(WAIT_S)
        super().close()


def test_a_model_is_closed_once_the_device_of_its_engine_is_freed(tmp_path: Path) -> None:
    path, engine = str(tmp_path / "engine"), _Freed()
    host = EngineHost(
        path, EngineConfig(), lambda: None, lambda *_: HostedEngine(cast(Engine, engine), _nothing)
    )
    connections = [Connection(path, EngineOrder("", "", ""), 2**16) for _ in range(2)]
    connections[0].close(0.0)  # it is the other's too
    assert not engine.closing.is_set()
    closing = threading.Thread(target=connections[1].close, args=(0.0,))
    closing.start()
    assert engine.closing.wait(WAIT_S)
    closing.join(0.1)
    assert closing.is_alive()
    engine.goes_on.set()
    closing.join(WAIT_S)
    assert not closing.is_alive()
    assert engine.closed.is_set()
    host.close()
