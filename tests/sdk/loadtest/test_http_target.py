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
    answers: list[bytes],
    use: Callable[[HttpTarget, asyncio.Event], Awaitable[list[Ended]]],
    host: str = "127.0.0.1",
) -> tuple[list[Ended], int, bytes]:
    """Has a server give these answers; returns what came of them, connections, and the first request.

    `use` is told when the server has ended a connection.
    """
    left, connections, seen = [*answers], 0, []
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while left:
            head = await reader.readuntil(b"\r\n\r\n")
            seen.append(head + await reader.readexactly(len(BODY.body)))
            answer = left.pop(0)
            writer.write(answer)
            await writer.drain()
            if not answer or b"close" in answer or b"HTTP/1.0" in answer:
                break
            if b"X-Idle: 0" in answer:  # a server that does not keep a connection, and says nothing of it
                break
        writer.close()
        await writer.wait_closed()
        ended.set()

    async def go() -> list[Ended]:
        async with await asyncio.start_server(serve, host, 0) as server:
            port = server.sockets[0].getsockname()[1]
            named = f"[{host}]" if ":" in host else host
            target = HttpTarget(f"http://{named}:{port}/v1/rerank?x=1", 10.0, token="secret")
            said = await use(target, ended)
            await target.close()
        return said

    said = asyncio.run(go())
    return said, connections, seen[0]


async def three(target: HttpTarget, _: asyncio.Event) -> list[Ended]:
    return [await target.send(BODY) for _ in range(3)]


def test_a_connection_is_kept_for_the_next_request() -> None:
    said, connections, first = against([PLAIN, CHUNKED, PLAIN], three)
    assert (said, connections) == ([Ended("OK")] * 3, 1)
    assert first.startswith(b"POST /v1/rerank?x=1 HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer secret\r\n" in first
    assert b"\r\nx-priority: interactive\r\nx-model: jobs@2\r\n" in first
    assert first.endswith(BODY.body)


def test_an_address_of_ipv6_is_named_in_brackets() -> None:
    _, _, first = against([PLAIN] * 3, three, "::1")
    assert b"\r\nHost: [::1]:" in first


def test_refusals_are_told_by_their_status_and_closed_connections_are_left() -> None:
    said, connections, _ = against([BUSY, PLAIN, b""], three)
    assert (said, connections) == (
        [Ended("HTTP 503"), Ended("OK"), Ended("UNAVAILABLE", "the connection ended before its answer")],
        2,
    )


def test_a_connection_that_the_server_ended_meanwhile_fails_no_request() -> None:
    """Servers end idle connections, uvicorn after seconds: at a low rate every second request met its end."""

    async def use(target: HttpTarget, ended: asyncio.Event) -> list[Ended]:
        first = await target.send(BODY)
        await ended.wait()
        for _ in range(5):  # turns of the loop, in which the client's end is told
            await asyncio.sleep(0)
        return [first, await target.send(BODY)]

    said, connections, _ = against([PLAIN.replace(b"Content-L", b"X-Idle: 0\r\nContent-L"), PLAIN], use)
    assert (said, connections) == ([Ended("OK")] * 2, 2)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        CHUNKED.replace(b"\r\n2\r\n", b"\r\n2;name=value\r\n").replace(b"0\r\n", b"0\r\nTrailer: x\r\n"),
    ],
)
def test_answers_of_other_servers_are_read_to_their_end(answer: bytes) -> None:
    said, connections, _ = against([answer, PLAIN, PLAIN], three)
    assert (said, connections) == ([Ended("OK")] * 3, 2 if b"/1.0" in answer else 1)


def test_what_is_no_http_is_told() -> None:
    async def use(target: HttpTarget, _: asyncio.Event) -> list[Ended]:
        return [await target.send(BODY)]

    said, _, _ = against([b"SSH-2.0 close\r\n\r\n"], use)
    assert said == [Ended("UNAVAILABLE", "the answer is no HTTP/1.1: SSH-2.0 close")]


@pytest.mark.parametrize(
    "url",
    [
        "localhost:80",
        "ftp://host/",
        "http://",
        "http://h:99999/",
        "http://[::1/",
        "http://h/a b",
        "http://u:p@h/",
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="give http://host:port/path"):
        HttpTarget(url, 1.0)


def test_a_token_that_no_header_takes_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="token has characters that a header does not take"):
        HttpTarget("http://host:80/", 1.0, token="a\r\nX: y")
