"""Connections of HTTP/1.1 that must get on with a request: uvicorn would wait for its headers for ever."""

import asyncio
import gc
import logging
import re
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from rankport.runtime.server.http.answers import Answer, UnreadError

_log = logging.getLogger(__name__)

_HANDSHAKE_S = 10.0
_FIRST_REQUEST_S = 0.25  # less than the front's farewell
_COLLECTED = 100  # handshakes that came to nothing, at 300 kB each
_ABSOLUTE = re.compile(rb"https?://[^/]+", re.IGNORECASE)  # http://host/path, which a server has to take


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


def protocol_of(
    idle_s: float,
    most: int,
    most_of_address: int,
    made: Callable[[int], None],
    malformed: Callable[..., Answer],
) -> type[H11Protocol]:
    """Makes the class of connections that are closed once they wait for the rest of a request's head for so long.

    Where there are more than `most`, or of one address more than `most_of_address` if that is not 0, the one of them
    closes that has had no whole request for the longest: a client that keeps many keeps no other out. If all have one
    that is being answered the new one closes. `made` is told the number of each one's file; `malformed` makes the
    answer to what is no HTTP/1.1: it takes the fault, the bytes that are unread, and whether they are `in_body`.
    """

    class Protocol(H11Protocol):
        """Connection with a time limit for the head of a request; bodies have theirs in `bodies`."""

        _overdue: asyncio.TimerHandle | None = None
        idle_since_s = 0.0
        _application: ASGIApp

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._application, self.app = self.app, self._run
            made(transport.get_extra_info("socket").fileno())
            self.idle_since_s = self.loop.time()
            if not self._has_room():
                transport.close()
                return
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
            """Runs the application, and ends a connection whose client reads nothing, with what it was to read."""
            cycle: Any = self.cycle  # of this request
            _take_origin_form(scope)
            try:
                await self._application(scope, receive, send)
            except UnreadError:
                _log.warning("a client did not read its answer and is cut off")
                cycle.disconnected = True
                self.transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._unwatch()

        def shutdown(self) -> None:
            """Closes as the server stops; a new connection, whose first request may be on its way, a moment later."""
            if self.cycle is None:
                self.loop.call_later(_FIRST_REQUEST_S, self._close_unless_busy)
            else:
                super().shutdown()

        def _close_unless_busy(self) -> None:
            if not self.busy and not self.transport.is_closing():
                super().shutdown()

        def on_response_complete(self) -> None:
            self.idle_since_s = self.loop.time()
            super().on_response_complete()

        def send_400_response(self, msg: str) -> None:
            """Answers what is no request, unless an answer is on its way already, and closes."""
            fault = sys.exception()
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and isinstance(
                fault, h11.RemoteProtocolError
            ):
                answer = malformed(fault, self.conn.trailing_data[0], in_body=self.busy)
                said = {"content-type": answer.media_type, "content-length": str(len(answer.content))}
                named = [*{**said, **answer.headers, "connection": "close"}.items()]
                for event in (
                    h11.Response(status_code=answer.status, headers=named),
                    h11.Data(data=answer.content),
                    h11.EndOfMessage(),
                ):
                    self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

        def _has_room(self) -> bool:
            """Closes an idle connection where this is one too many; says whether there is room then."""
            others: list[Any] = [each for each in self.connections if each is not self]
            if most_of_address and self.client is not None:
                address = self.client[0]
                own = [each for each in others if each.client is not None and each.client[0] == address]
                if not _made_room(own, most_of_address):
                    return False
            return _made_room(others, most)

        @property
        def busy(self) -> bool:
            """Says whether a request is under way."""
            cycle: Any = self.cycle  # None before the first request, which its type leaves out
            return cycle is not None and not cycle.response_complete

        def _watch(self) -> None:
            if self.busy:
                self._unwatch()
            elif self._overdue is None:
                self._overdue = self.loop.call_later(idle_s, self.transport.close)

        def _unwatch(self) -> None:
            if self._overdue is not None:
                self._overdue.cancel()
                self._overdue = None

    return Protocol


def _take_origin_form(scope: Scope) -> None:
    """Takes the path of a target that is a whole address, as clients write it that have this server for their proxy."""
    address = _ABSOLUTE.match(scope["raw_path"])
    if address is not None:
        scope["raw_path"] = scope["raw_path"][address.end() :] or b"/"
        scope["path"] = unquote(scope["raw_path"].decode("ascii"))


def _made_room(connections: list[Any], most: int) -> bool:
    """Closes one of these that is idle if there are so many; says whether there is room for one more then."""
    there = [each for each in connections if not each.transport.is_closing()]
    if len(there) < most:
        return True
    idle = [each for each in there if not each.busy or each.conn.their_state is h11.SEND_BODY]
    if idle:
        min(idle, key=lambda each: each.idle_since_s).transport.close()
    return bool(idle)
