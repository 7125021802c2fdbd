"""A connection to an engine where something cannot be read or sent: whoever waits is told, and it goes on."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rankport.protos.errors import Unavailable
from rankport.runtime.kinds.remote.connection import Connection
from rankport.runtime.kinds.remote.messages import EngineOrder, EngineState, Message, nothing_counted
from rankport.runtime.links.columns import Columns
from rankport.runtime.links.frames import INLINE, Frame
from rankport.runtime.links.link import Link
from support.engines import WAIT_S


class _Engine:
    """The other end: an engine that is there, whose answers a test sends."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.path)
        self._listening.listen()
        self._readers: list[threading.Thread] = []

    def opened(self) -> socket.socket:
        """Takes the next connection, and returns its socket."""
        sock, _ = self._listening.accept()
        raw, link = sock.dup(), Link.accept(sock)
        link.send(Message.OPENED, 0, Columns(EngineState(True, nothing_counted("cpu"), None).values()))
        self._readers.append(threading.Thread(target=_read, args=(link,)))
        self._readers[-1].start()
        return raw

    def connected(self) -> tuple[Connection, socket.socket]:
        """A connection to it, and the socket of its end."""
        with ThreadPoolExecutor(1) as thread:
            raw = thread.submit(self.opened)
            return Connection(self.path, EngineOrder("", "", ""), 2**17), raw.result(WAIT_S)

    def close(self) -> None:
        for reader in self._readers:
            reader.join(WAIT_S)
        self._listening.close()


def _read(link: Link) -> None:
    """Reads until the front lets the engine go, or is gone."""
    for kind, _, _ in link.frames():
        if kind == Message.CLOSE:
            break
    link.close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[_Engine]:
    running = _Engine(tmp_path / "engine")
    yield running
    running.close()


def test_what_cannot_be_read_ends_its_requests_and_the_engine_is_connected_to_anew(engine: _Engine) -> None:
    connection, raw = engine.connected()
    future = connection.submit(Columns(), 1)
    for part in Frame(Message.ANSWER, 1, b"no head of columns", 0, INLINE, b"").parts():
        raw.sendall(part)
    with pytest.raises(Unavailable, match="started again"):
        future.result(WAIT_S)
    engine.opened().close()
    connection.close(0.0)
    raw.close()


def test_what_cannot_be_sent_is_not_waited_for(engine: _Engine) -> None:
    connection, raw = engine.connected()
    with pytest.raises(TypeError):
        connection.submit(Columns({"no value of JSON": object()}), 1)
    closing = threading.Thread(target=connection.close, args=(2 * WAIT_S,), daemon=True)
    closing.start()
    closing.join(WAIT_S)
    assert not closing.is_alive()
    raw.close()
