"""HTTP servers under load: statuses, connections that are kept, and servers that go away."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from rankport.protos.errors import InvalidRequest
from rankport.sdk.loadtest.http_target import HttpTarget
from rankport.sdk.loadtest.requests import LoadRequest
from rankport.sdk.loadtest.result import Ended

BODY = LoadRequest("POST", b'{"query": "q"}', 1, "jobs@2")
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def against(
    answers: list[bytes], use: Callable[[HttpTarget], Awaitable[list[Ended]]]
) -> tuple[list[Ended], int, bytes]:
    """Has a server give these answers; returns what came of them, connections, and the first request."""
    left, connections, seen = [*answers], 0, []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while left:
            head = await reader.readuntil(b"\r\n\r\n")
            seen.append(head + await reader.readexactly(len(BODY.body)))
            answer = left.pop(0)
            writer.write(answer)
            await writer.drain()
            if not answer or b"close" in answer:
                break
        writer.close()
        await writer.wait_closed()

    async def go() -> list[Ended]:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            target = HttpTarget(f"http://127.0.0.1:{port}/v1/rerank?x=1", 10.0, token="secret")
            said = await use(target)
            await target.close()
        return said

    said = asyncio.run(go())
    return said, connections, seen[0]


async def three(target: HttpTarget) -> list[Ended]:
    return [await target.send(BODY) for _ in range(3)]


def test_a_connection_is_kept_for_the_next_request() -> None:
    said, connections, first = against([PLAIN, CHUNKED, PLAIN], three)
    assert (said, connections) == ([Ended("OK")] * 3, 1)
    assert first.startswith(b"POST /v1/rerank?x=1 HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer secret\r\n" in first
    assert b"\r\nx-priority: interactive\r\nx-model: jobs@2\r\n" in first
    assert first.endswith(BODY.body)


def test_refusals_are_told_by_their_status_and_closed_connections_are_left() -> None:
    said, connections, _ = against([BUSY, PLAIN, b""], three)
    assert (said, connections) == (
        [Ended("HTTP 503"), Ended("OK"), Ended("UNAVAILABLE", "the connection ended before its answer")],
        2,
    )


@pytest.mark.parametrize("url", ["localhost:80", "ftp://host/", "http://"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="give http://host:port/path"):
        HttpTarget(url, 1.0)
