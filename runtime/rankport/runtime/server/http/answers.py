"""Answers on their way to a client, whole or as events, within the time that it may take to read them."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from starlette.types import Send

from rankport.protos.errors import DeadlineExceeded
from rankport.runtime.server.http.json_text import json_text

JSON = "application/json"
_EVENTS = "text/event-stream; charset=utf-8"
_PART_BYTES = 2**20


class UnreadError(Exception):
    """Answer that its client does not read: what ends its connection."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body and headers of a response."""

    content: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = JSON

    @classmethod
    def of_json(cls, body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> "Answer":
        """Writes a body as JSON, of which numbers that are not finite are no part."""
        return cls(json_text(body).encode(), status, headers or {})

    def with_tensors(self, tensors: bytes, length: str, media_type: str) -> "Answer":
        """Puts tensors behind its JSON, whose length header `length` says."""
        headers = {**self.headers, length: str(len(self.content))}
        return Answer(self.content + tensors, self.status, headers, media_type)

    def with_header(self, name: str, value: str) -> "Answer":
        """Adds a header."""
        return replace(self, headers={**self.headers, name: value})

    async def send(self, send: Send, idle_s: float) -> None:
        """Sends it. Raises `UnreadError` if the client reads nothing for so long."""
        said = {"content-type": self.media_type, "content-length": str(len(self.content)), **self.headers}
        await send({"type": "http.response.start", "status": self.status, "headers": _encoded(said)})
        for start in range(0, len(self.content) or 1, _PART_BYTES):
            part = self.content[start : start + _PART_BYTES]
            more = start + _PART_BYTES < len(self.content)
            message = {"type": "http.response.body", "body": part, "more_body": more}
            try:
                await asyncio.wait_for(send(message), idle_s)
            except TimeoutError:
                raise UnreadError from None


class EventStream:
    """Answer as server-sent events, which begins with the first of them. Several tasks may put some."""

    def __init__(self, send: Send, idle_s: float, headers: Mapping[str, str]) -> None:
        self._send, self._idle_s, self._headers = send, idle_s, headers
        self._lock = asyncio.Lock()
        self.begun = False
        self.unread = False  # the client reads nothing

    async def put(self, body: object, headers: Mapping[str, str] | None = None) -> None:
        """Sends one; text is sent as it is, all else as JSON. `headers` are those of the answer, if it is the first.

        Raises `DeadlineExceeded` if the client reads nothing for too long.
        """
        text = body if isinstance(body, str) else json_text(body)
        async with self._lock:
            if not self.begun:
                said = {
                    "content-type": _EVENTS,
                    "cache-control": "no-cache",
                    **self._headers,
                    **(headers or {}),
                }
                await self._send({"type": "http.response.start", "status": 200, "headers": _encoded(said)})
                self.begun = True  # not before: what is cancelled until then is refused as any other
            await self._part(f"data: {text}\n\n".encode(), more=True)

    async def end(self) -> None:
        """Ends the answer. Raises as `put`."""
        async with self._lock:
            await self._part(b"", more=False)

    async def _part(self, body: bytes, *, more: bool) -> None:
        try:
            sending = self._send({"type": "http.response.body", "body": body, "more_body": more})
            await asyncio.wait_for(sending, self._idle_s)
        except TimeoutError:
            self.unread = True
            raise DeadlineExceeded(
                f"the client read nothing for {self._idle_s:g} s (stream_idle_s)"
            ) from None


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
