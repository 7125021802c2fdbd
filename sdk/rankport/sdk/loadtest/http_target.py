"""An HTTP server under load: one address, a JSON body a request, over connections that are kept open."""

import asyncio
import re
import ssl
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from rankport.protos.errors import InvalidRequest
from rankport.protos.priorities import PRIORITY_KEY, Priority
from rankport.protos.reasons import reason_of
from rankport.sdk.loadtest.requests import LoadRequest
from rankport.sdk.loadtest.result import OK, Ended
from rankport.sdk.transport.access import Tls, checked_token, warn_in_clear
from rankport.sdk.transport.channels import is_this_machine
from rankport.sdk.transport.tracing import model_metadata

_FAREWELL_S = 1.0
_SENT = re.compile(r"[\x21-\x7e]*")
_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class _Place:
    host: str
    port: int
    path: str
    secure: bool

    @classmethod
    def of(cls, url: str) -> "_Place":
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:  # a port that there is not, brackets around no address
            raise InvalidRequest(f"url is {url!r}: {error}; give http://host:port/path") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidRequest(f"url is {url!r}: give http://host:port/path")
        if parts.username is not None or not _SENT.fullmatch(parts.path + parts.query):
            raise InvalidRequest(
                f"url is {parts.scheme}://…{parts.path!r}: give http://host:port/path without a user (a token goes by "
                "RANKPORT_TOKEN), and what is no ASCII, and blanks, as %20 has them"
            )
        path, secure = parts.path or "/", parts.scheme == "https"
        port = port if port is not None else 443 if secure else 80
        return cls(parts.hostname, port, f"{path}?{parts.query}" if parts.query else path, secure)

    @property
    def authority(self) -> str:
        """Host and port, as a request names them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class HttpTarget:
    """Server at an http:// address. Lives on one event loop; opens as many connections as requests are open."""

    def __init__(
        self, url: str, timeout_s: float, *, token: str | None = None, tls: Tls | bool = False
    ) -> None:
        """Raises `InvalidRequest` for what is no address of HTTP, or files of TLS that cannot be read."""
        self._place = _Place.of(url)
        self._tls = _context(tls) if self._place.secure else None
        shown = checked_token(token)
        clear = not self._place.secure and not is_this_machine(self._place.host)
        warn_in_clear(token, self._place.authority, clear=clear)
        self._authorization = "" if shown is None else f"Authorization: Bearer {shown}\r\n"
        self._timeout_s = timeout_s
        self._idle: deque[_Connection] = deque()
        self._closing: set[asyncio.Task[None]] = set()

    async def send(self, request: LoadRequest, priority: Priority = "interactive") -> Ended:
        """Sends a request of a class and waits for its end: OK, its status in numbers, or why there is none."""
        try:
            status, body = await asyncio.wait_for(self._exchange(request, priority), self._timeout_s)
        except TimeoutError:
            return Ended("DEADLINE_EXCEEDED", f"no answer within {self._timeout_s:g} s")
        except EOFError:
            return Ended("UNAVAILABLE", "the connection ended before its answer")
        except (OSError, ValueError) as error:
            return Ended("UNAVAILABLE", str(error))
        return Ended(OK) if 200 <= status < 300 else Ended(f"HTTP {status}", body.decode(errors="replace"))

    async def close(self) -> None:
        """Ends the connections."""
        for _, writer in self._idle:
            self._drop(writer)
        self._idle.clear()
        await asyncio.gather(*self._closing)

    async def _connect(self) -> _Connection:
        return await asyncio.open_connection(self._place.host, self._place.port, ssl=self._tls)

    def _kept(self) -> _Connection | None:
        """Takes a connection that is kept, and lets go of those that the server has ended meanwhile."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            self._drop(writer)
        return None

    async def _exchange(self, request: LoadRequest, priority: Priority) -> tuple[int, bytes]:
        place, body = self._place, request.body
        named = "".join(f"{key}: {model}\r\n" for key, model in model_metadata(request.model))
        connection = self._kept() or await self._connect()
        reader, writer = connection
        kept = False
        try:
            head = f"POST {place.path} HTTP/1.1\r\nHost: {place.authority}\r\n"
            head += f"{self._authorization}{PRIORITY_KEY}: {priority}\r\n{named}"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
            status, answer, kept = await _answer(reader)
        finally:
            if kept:
                self._idle.append(connection)
            else:
                self._drop(writer)
        return status, answer

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        closing = asyncio.create_task(_closed(writer))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, TimeoutError):  # a server that does not answer a farewell is left
        await asyncio.wait_for(writer.wait_closed(), _FAREWELL_S)


def _context(tls: Tls | bool) -> ssl.SSLContext:
    files = tls if isinstance(tls, Tls) else Tls()
    try:
        context = ssl.create_default_context(cafile=files.ca)
        if files.cert is not None:
            context.load_cert_chain(files.cert, files.key)
    except OSError as error:
        raise InvalidRequest(f"files of TLS cannot be read: {reason_of(error)}") from error
    return context


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    """Reads an answer to its end: the status, the body, and whether the connection may be used again."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    matched = re.fullmatch(r"HTTP/1\.([01]) (\d{3})(?: .*)?", first)
    if matched is None:
        raise ValueError(f"the answer is no HTTP/1.1: {first:.60}")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    status = int(matched[2])
    words = headers.get("connection", "").lower()
    kept = words == "keep-alive" if matched[1] == "0" else words != "close"
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return status, await _chunks(reader), kept
    if status in _WITHOUT_BODY:
        return status, b"", kept
    if "content-length" not in headers:  # then it ends where the connection does
        return status, await reader.read(), False
    return status, await reader.readexactly(int(headers["content-length"])), kept


_WITHOUT_BODY = (204, 304)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).partition(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    while (await reader.readline()).strip():  # what may follow the last one
        pass
    return body
