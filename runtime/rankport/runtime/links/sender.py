"""`Sender`: bytes into a socket without ever waiting for the other end; what it does not take yet, a thread sends."""

import socket
import threading
from collections import deque
from contextlib import suppress

_BUFFER_BYTES = 2**21


class Sender:
    """Way into one socket. Any thread may send; bytes leave in the order of the calls."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._socket = sock
        self._waiting: deque[bytes] = deque()
        self._condition = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def send(self, parts: list[bytes]) -> None:
        """Sends bytes. Does nothing once the other end is gone: whoever reads notices."""
        with self._condition:
            rest = b"".join(parts)
            if not self._waiting and self._thread is None:
                rest = self._at_once(rest)
            if rest and not self._closed:
                self._waiting.append(rest)
                self._begin()

    def close(self) -> None:
        """Sends nothing more."""
        with self._condition:
            self._closed = True
            self._waiting.clear()

    def _at_once(self, rest: bytes) -> bytes:
        """Sends what the socket takes, and returns what is left."""
        try:
            return rest[self._socket.send(rest, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            return rest
        except OSError:
            self._closed = True
            return b""

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="rankport-link", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the system allows no thread: without its rest nobody can read what follows
                self._thread, self._closed = None, True
                self._waiting.clear()
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        """Sends what waits, and ends."""
        while True:
            with self._condition:
                if not self._waiting:
                    self._thread = None
                    return
                rest = self._waiting.popleft()
            with suppress(OSError):  # the other end is gone: what waits has no reader
                self._socket.sendall(rest)
