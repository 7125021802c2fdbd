"""Connections of HTTP/1.1 that must get on with a request: uvicorn would wait for its headers for ever."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def protocol_of(idle_s: float, max_connections: int) -> type[H11Protocol]:
    """Makes the class of connections that are closed once they wait for the rest of a request's head for so long.

    More than `max_connections` are closed as they come.
    """

    class Protocol(H11Protocol):
        """Connection with a time limit for the head of a request; bodies have theirs in `bodies`."""

        _overdue: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > max_connections:
                transport.close()
                return
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._unwatch()

        def _watch(self) -> None:
            cycle: Any = self.cycle  # None before the first request, which its type leaves out
            if cycle is not None and not cycle.response_complete:
                self._unwatch()
            elif self._overdue is None:
                self._overdue = self.loop.call_later(idle_s, self.transport.close)

        def _unwatch(self) -> None:
            if self._overdue is not None:
                self._overdue.cancel()
                self._overdue = None

    return Protocol
