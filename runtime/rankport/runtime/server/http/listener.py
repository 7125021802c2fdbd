"""`Listener`: the listening socket of the HTTP front, which bounds handshakes of TLS that nobody ends."""

import gc
import socket
import time
from contextlib import suppress
from functools import cached_property
from typing import Any

_HANDSHAKE_S = 10.0
_COLLECTED = 100  # handshakes that came to nothing, at 300 kB each


class Listener(socket.socket):
    """Listening socket that bounds the connections whose handshake of TLS has not ended, which no protocol knows yet.

    Each takes 300 kB. Beyond `most`, or ten seconds, the oldest end: handshakes that are never ended keep nobody out.
    """

    most = 1000
    _ended = 0

    def accept(self) -> tuple[socket.socket, Any]:
        """Takes the next connection, and ends those that are too many or too old."""
        connection, address = super().accept()
        waiting = self._waiting
        waiting.pop(connection.fileno(), None)  # of one that has ended, whose number is free again
        waiting[connection.fileno()] = connection, time.monotonic()
        for number, (old, since_s) in list(waiting.items()):
            if old.fileno() == -1:
                del waiting[number]
            elif len(waiting) > self.most or time.monotonic() - since_s > _HANDSHAKE_S:
                del waiting[number]
                with suppress(OSError):  # the event loop finds its end, and closes it
                    old.shutdown(socket.SHUT_RDWR)
            else:
                break
            self._ended += 1
            if self._ended % _COLLECTED == 0:  # the loop leaves what they took in cycles
                gc.collect()
        return connection, address

    def made(self, number: int) -> None:
        """Learns that a connection, by the number of its file, has ended its handshake."""
        self._waiting.pop(number, None)

    @cached_property
    def _waiting(self) -> dict[int, tuple[socket.socket, float]]:
        return {}  # by the numbers of their files, the oldest first
