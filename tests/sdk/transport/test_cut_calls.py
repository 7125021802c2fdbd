"""Calls through what stands between a client and its servers: proxies that cut them off, or take none so large."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from rankport.protos.errors import LimitExceeded, NotFound, Unavailable
from rankport.sdk import AsyncClient, Client, ScoreCall

SETTINGS, ACK, PING, HEADERS, RST_STREAM = 4, 1, 6, 1, 3
END = 5  # END_STREAM and END_HEADERS
# As HPACK writes them: a name by its index, a value as it is.
TOO_LARGE = b"\x08\x03413"  # :status
NOT_FOUND = b"\x88" + b"\x0f\x10\x10application/grpc" + b"\x00\x0bgrpc-status\x015"


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """Writes a frame of HTTP/2."""
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


class Proxy:
    """Place that takes calls over HTTP/2, and ends the first as it is told, the others as a server does."""

    def __init__(self, first: Callable[[int], bytes]) -> None:
        self.calls = 0
        self._first = first
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as read, suppress(OSError):
            read.read(24)  # the preface
            connection.sendall(frame(SETTINGS, 0, 0))
            while head := read.read(9):
                kind, flags, stream = struct.unpack(">BBI", head[3:])
                content = read.read(int.from_bytes(head[:3], "big"))
                if kind in (SETTINGS, PING) and not flags & ACK:
                    connection.sendall(frame(kind, ACK, 0, content if kind == PING else b""))
                elif kind == HEADERS:
                    self.calls += 1
                    found = frame(HEADERS, END, stream, NOT_FOUND)
                    connection.sendall(self._first(stream) if self.calls == 1 else found)


@pytest.fixture
def proxy(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    proxy = Proxy(request.param)
    yield proxy
    proxy.close()


def cut(code: int) -> Callable[[int], bytes]:
    """Ends calls with an error of HTTP/2."""
    return lambda stream: frame(RST_STREAM, 0, stream, struct.pack(">I", code))


CALLS: list[Callable[[Client], object]] = [
    lambda client: client.score("q", ["a"]),
    lambda client: next(client.score_stream([ScoreCall("1", "q", ["a"])])),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("proxy", [cut(2), cut(8)], ids=["nginx", "haproxy"], indirect=True)
def test_a_call_that_a_proxy_cuts_off_is_made_again(proxy: Proxy, call: Callable[[Client], object]) -> None:
    """It was a `BackendError`, or cancelled by nobody, and streams ended where the server behind a proxy did."""
    with Client(proxy.address, timeout_s=20.0) as client, pytest.raises(NotFound):
        call(client)
    assert proxy.calls == 2


@pytest.mark.parametrize("proxy", [cut(8)], indirect=True)
def test_the_asyncio_client_knows_a_cut_from_its_own_cancellation(proxy: Proxy) -> None:
    async def ask() -> None:
        async with AsyncClient(proxy.address, timeout_s=20.0, retry=False) as client:
            with pytest.raises(Unavailable, match=r"cut the call off without a status.*RST_STREAM"):
                await client.score("q", ["a"])

    asyncio.run(ask())


@pytest.mark.parametrize("proxy", [lambda stream: frame(HEADERS, END, stream, TOO_LARGE)], indirect=True)
def test_what_a_proxy_takes_for_too_large_is_over_a_limit(proxy: Proxy) -> None:
    told = r"a proxy at 127\.0\.0\.1:\d+ takes no request so large"
    with Client(proxy.address, timeout_s=20.0) as client, pytest.raises(LimitExceeded, match=told):
        client.score("q", ["a"])
    assert proxy.calls == 1
