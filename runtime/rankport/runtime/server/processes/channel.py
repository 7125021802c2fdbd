"""`Channel`: a connection between the supervisor and one child, which any thread sends over and one thread reads."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any


class Channel:
    """One end. What is said are plain values that this program made."""

    def __init__(self, fd: int) -> None:
        """Takes the descriptor over."""
        self._connection: Connection[Any, Any] = Connection(fd)
        self._lock = threading.Lock()

    def send(self, said: object) -> None:
        """Says something; nobody hears it once the other end is gone, which `heard` tells."""
        with self._lock, suppress(OSError, ValueError):
            self._connection.send(said)

    def heard(self) -> Iterator[Any]:
        """Gives what the other end says, until it is gone."""
        with suppress(EOFError, OSError):
            while True:
                yield self._connection.recv()

    def close(self) -> None:
        """Ends it."""
        self._connection.close()
