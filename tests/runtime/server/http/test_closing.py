"""End of a connection as its server stops: by a loop and a transport of the test, so that no time decides."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from rankport.runtime.server.http.protocol import ConnectionRules


class Timers(asyncio.SelectorEventLoop):
    """A loop whose timers the test lets go off."""

    def __init__(self) -> None:
        super().__init__()
        self.late: list[Callable[[], object]] = []

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> Any:
        self.late.append(lambda: callback(*args))
        return super().call_later(1e6, callback, *args, context=context)


class Transport(asyncio.Transport):
    """A transport over a socket that nobody reads."""

    def __init__(self, own: socket.socket) -> None:
        super().__init__({"socket": own, "peername": ("10.0.0.1", 1), "sockname": ("10.0.0.2", 2)})
        self.closed = False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def write(self, data: bytes) -> None:  # type: ignore[override]
        """Takes it."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def loop() -> Iterator[Timers]:
    made = Timers()
    yield made
    made.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    pair = socket.socketpair()
    yield pair
    for end in pair:
        end.close()


def connection(loop: Timers, own: socket.socket) -> tuple[Any, Transport]:
    kind = ConnectionRules(600.0, 10, 0, lambda number: None, lambda *_, **__: None).connection()
    config = uvicorn.Config(app, lifespan="off", log_config=None)
    config.load()
    made, transport = kind(config, ServerState(), {}, loop), Transport(own)
    made.connection_made(transport)
    loop.late.clear()
    return made, transport


def test_a_new_connection_has_a_moment_for_its_first_request(
    loop: Timers, ends: tuple[socket.socket, socket.socket]
) -> None:
    made, transport = connection(loop, ends[0])
    made.shutdown()
    assert not transport.closed
    (moment_over,) = loop.late
    moment_over()
    assert transport.closed


def test_one_that_is_answered_in_that_moment_is_not_cut_off(
    loop: Timers, ends: tuple[socket.socket, socket.socket]
) -> None:
    made, transport = connection(loop, ends[0])
    made.shutdown()
    (moment_over,) = loop.late
    made.data_received(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    moment_over()
    assert not transport.closed
    loop.run_until_complete(asyncio.gather(*made.tasks))
    assert made.cycle.response_complete


def test_one_that_had_its_request_closes_at_once(
    loop: Timers, ends: tuple[socket.socket, socket.socket]
) -> None:
    made, transport = connection(loop, ends[0])
    made.data_received(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    loop.run_until_complete(asyncio.gather(*made.tasks))
    made.shutdown()
    assert transport.closed
