"""`Way`: a connection to a server that a test counts the bytes of, and holds."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from socket import SHUT_WR, create_connection, create_server, socket


@dataclass
class Way:
    """Way of one connection from its client to the server."""

    address: str  # for the client
    sent: int = 0  # bytes to the server
    open: threading.Event = field(
        default_factory=threading.Event
    )  # nothing more comes through while it is not


@contextmanager
def way_to(address: str) -> Iterator[Way]:
    """Passes one connection on. What is held comes through at the end."""
    host, port = address.split(":")
    with create_server(("127.0.0.1", 0)) as listening, create_connection((host, int(port))) as inner:
        way = Way("{}:{}".format(*listening.getsockname()))
        way.open.set()
        thread = threading.Thread(target=_join, args=(listening, inner, way))
        thread.start()
        try:
            yield way
        finally:
            way.open.set()
            thread.join()


def _join(listening: socket, inner: socket, way: Way) -> None:
    with listening.accept()[0] as outer:
        back = threading.Thread(target=_pass_on, args=(inner, outer))
        back.start()
        _pass_on(outer, inner, way)
        back.join()


def _pass_on(source: socket, sink: socket, way: Way | None = None) -> None:
    with suppress(OSError):
        while data := source.recv(2**16):
            if way is not None:
                way.open.wait()
                way.sent += len(data)
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(SHUT_WR)
