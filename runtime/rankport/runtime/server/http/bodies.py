"""Bodies of requests, bounded while they are read and before they are parsed."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from rankport.protos.errors import (
    DeadlineExceeded,
    InvalidRequest,
    LimitExceeded,
    Overloaded,
    RequestCancelled,
)
from rankport.protos.wording import counted
from rankport.runtime.options import size_in_words
from rankport.runtime.server.core import Core
from rankport.runtime.server.http.answers import JSON
from rankport.runtime.server.http.apart import apart

HEADER_LENGTH = "inference-header-content-length"
"""Header of a body, or an answer, whose JSON has so many bytes and is followed by tensors as they are."""
OCTETS = "application/octet-stream"
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_JSON_TYPES = (JSON, "")
# A value takes the parser 32 bytes and more, and its text may be two: many small ones would cost a multiple of a body.
_BYTES_PER_VALUE = 16
# An item may be an object of two named texts. A million objects would hold up the event loop for seconds.
_LEAST_BYTES_A_S = 1024  # of a body, after the time that a client may send nothing
_STRINGS_PER_ITEM, _MORE_STRINGS = 4, 10_000


@dataclass(frozen=True, slots=True)
class Body:
    """Body of a request."""

    json: bytes
    tensors: bytes = b""  # behind it

    def __len__(self) -> int:
        return len(self.json) + len(self.tensors)


class Bodies:
    """Reads bodies. All that are being read have a budget together, that of pending requests, beside theirs."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._held = 0

    async def read(self, headers: Mapping[str, str], receive: Receive, *, with_tensors: bool = False) -> Body:
        """Reads the whole body of a request, which may have tensors behind its JSON where it is said so.

        Raises:
            InvalidRequest: it is no JSON by its headers, or its tensors begin behind its end.
            LimitExceeded: it is larger than a message may be, or has too many values.
            Overloaded: the bodies that are being read are too many bytes.
            DeadlineExceeded: the client sends nothing for too long, or hardly anything.
            RequestCancelled: the client went away.
        """
        json_bytes = _json_bytes(headers) if with_tensors else None
        _check_type(headers, ("", OCTETS, JSON) if json_bytes is not None else _JSON_TYPES)
        length = headers.get("content-length", "")
        if length.isdecimal():
            self._core.limits.check_bytes(int(length))
        parts: list[bytes] = []
        try:
            await self._read_parts(parts, receive)
            return await apart(sum(map(len, parts)), self._checked, parts, json_bytes)
        finally:
            self._held -= sum(map(len, parts))

    async def _read_parts(self, parts: list[bytes], receive: Receive) -> None:
        size, more = 0, True
        clock = asyncio.get_running_loop().time
        began_s = clock()
        while more:
            message = await self._next(receive)
            part: bytes = message.get("body", b"")
            size += len(part)
            self._check_pace(size, clock() - began_s)
            self._core.limits.check_bytes(size)
            self._check_room(len(part))
            parts.append(part)
            self._held += len(part)
            more = message.get("more_body", False)

    async def _next(self, receive: Receive) -> MutableMapping[str, Any]:
        idle_s = self._core.config.stream_idle_s
        try:
            message = await asyncio.wait_for(receive(), idle_s)
        except TimeoutError:
            raise DeadlineExceeded(f"the client sent nothing of the body for {idle_s:g} s") from None
        if message["type"] == "http.disconnect":
            raise RequestCancelled("the client went away before its request was read")
        return message

    def _check_pace(self, size: int, taken_s: float) -> None:
        if taken_s > self._core.config.stream_idle_s + size / _LEAST_BYTES_A_S:
            raise DeadlineExceeded(
                f"the client sent {size} bytes of the body in {taken_s:.1f} s: send {_LEAST_BYTES_A_S} a second or more"
            )

    def _check_room(self, nbytes: int) -> None:
        most = self._core.config.max_pending_bytes
        if self._held and self._held + nbytes > most:
            raise Overloaded(
                f"requests that are being read have {self._held} bytes, the limit is {size_in_words(most)} "
                "(max_pending_bytes); retry later"
            )

    def _checked(self, parts: Sequence[bytes], json_bytes: int | None) -> Body:
        body = _split(b"".join(parts), json_bytes)
        self._check_strings(body.json)
        values = body.json.count(b",") + body.json.count(b"[") + body.json.count(b"{")
        most = self._core.limits.message_bytes // _BYTES_PER_VALUE
        if values > most:
            raise LimitExceeded(
                f"the body has about {counted(values, 'value')}, this server takes {most}, a 16th of "
                "max_message_bytes: send fewer at once"
            )
        return body

    def _check_strings(self, body: bytes) -> None:
        strings = (body.count(b'"') - body.count(b'\\"')) // 2
        most = _STRINGS_PER_ITEM * self._core.limits.items + _MORE_STRINGS
        if strings > most:
            raise LimitExceeded(
                f"the body has about {strings} texts and names, this server takes {most}, {_STRINGS_PER_ITEM} an item "
                "of max_request_items: send fewer at once"
            )


def _json_bytes(headers: Mapping[str, str]) -> int | None:
    said = headers.get(HEADER_LENGTH)
    if said is not None and not (said.isascii() and said.isdecimal() and len(said) < 20):
        raise InvalidRequest(
            f"{HEADER_LENGTH} is {said!r:.40}: give the bytes of the JSON before the tensors"
        )
    return None if said is None else int(said)


def _split(body: bytes, json_bytes: int | None) -> Body:
    if json_bytes is None:
        return Body(body)
    if json_bytes > len(body):
        raise InvalidRequest(f"{HEADER_LENGTH} is {json_bytes}, and the body has {len(body)} bytes")
    return Body(body[:json_bytes], body[json_bytes:])


def _check_type(headers: Mapping[str, str], types: Sequence[str]) -> None:
    # A page of any site may have a browser send other types, or none, to a server on this machine; browsers say whose
    # page it is.
    kind = headers.get("content-type", "")
    of_page = not kind and "origin" in headers
    if of_page or kind.partition(";")[0].strip().lower() not in types:
        raise InvalidRequest(f"content-type is {kind!r:.80}: send application/json")
    encoding = headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise InvalidRequest(f"content-encoding is {encoding!r:.80}: send the body as it is")
