"""Connections of HTTP/1.1 that must get on with a request: uvicorn would wait for its headers for ever."""

import asyncio
import logging
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from rankport.runtime.server.http.answers import Answer, UnreadError

_log = logging.getLogger(__name__)

_FIRST_REQUEST_S = 0.25  # less than the front's farewell
_ABSOLUTE = re.compile(rb"https?://[^/]+", re.IGNORECASE)  # http://host/path, which a server has to take


@dataclass(frozen=True, slots=True)
class ConnectionRules:
    """Rules of a front's connections: which of them close, and what is answered to what is no HTTP/1.1.

    Where there are more than `most`, or of one address more than `most_of_address`, the one of them closes that has had
    no whole request for the longest: a client that keeps many keeps no other out. If all have one that is being
    answered the new one closes.
    """

    idle_s: float  # how long one may wait for the rest of a request's head
    most: int
    most_of_address: int  # 0: no limit
    made: Callable[[int], None]  # is told the number of each one's file
    malformed: Callable[..., Answer]  # of a fault, the bytes that are unread, and whether they are `in_body`

    def connection(self) -> "type[Connection]":
        """Makes the class of connections with these rules: uvicorn makes them itself, by their class."""
        return type("RuledConnection", (Connection,), {"rules": self})


class Connection(H11Protocol):
    """Connection with a time limit for the head of a request; bodies have theirs in `bodies`."""

    rules: ConnectionRules
    _overdue: asyncio.TimerHandle | None = None
    idle_since_s = 0.0
    _application: ASGIApp

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._application, self.app = self.app, self._run
        self.rules.made(transport.get_extra_info("socket").fileno())
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
            answer = self.rules.malformed(fault, self.conn.trailing_data[0], in_body=self.busy)
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
        if self.rules.most_of_address and self.client is not None:
            address = self.client[0]
            own = [each for each in others if each.client is not None and each.client[0] == address]
            if not _made_room(own, self.rules.most_of_address):
                return False
        return _made_room(others, self.rules.most)

    @property
    def busy(self) -> bool:
        """Says whether a request is under way."""
        cycle: Any = self.cycle  # None before the first request, which its type leaves out
        return cycle is not None and not cycle.response_complete

    def _watch(self) -> None:
        if self.busy:
            self._unwatch()
        elif self._overdue is None:
            self._overdue = self.loop.call_later(self.rules.idle_s, self.transport.close)

    def _unwatch(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None


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
