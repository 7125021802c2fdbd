"""Requests that reach no endpoint: no HTTP, no path, no method. Each is told why, and counted, without a traceback."""

import logging
import socket
from collections.abc import Iterator

import pytest

from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.counts import Outcome
from rankport.runtime.server.observing.config import ObservingConfig
from support.servers.http import Answer, ask
from support.servers.serving import Serving, serving
from support.servers.supervised import eventually

LOGGED = ServerConfig(port=0, http_port=0, observing=ObservingConfig(log_requests=1.0))
HOST = b"host: x\r\n"


@pytest.fixture
def logged() -> Iterator[Serving]:
    """A server that writes a line for every request."""
    with serving(LOGGED) as running:
        yield running


def sent(served: Serving, *parts: bytes) -> list[Answer]:
    """Sends bytes, each part once the one before is answered, and reads answers until the connection ends."""
    host, port = served.server.http_address.rsplit(":", 1)
    answers: list[Answer] = []
    with socket.create_connection((host, int(port)), timeout=30.0) as connection:
        for part in parts:
            connection.sendall(part)
            answers += _read(connection)
        connection.shutdown(socket.SHUT_WR)
        return answers + _read(connection)


def _read(connection: socket.socket) -> list[Answer]:
    with connection.makefile("rb") as stream:
        first = stream.readline()
        if not first:
            return []
        status = int(first.split()[1])
        headers = {}
        while line := stream.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return [Answer(status, headers, stream.read(int(headers["content-length"])).decode())]


@pytest.mark.parametrize(
    ("request_bytes", "status", "error", "reason"),
    [
        (b"hello\r\n\r\n", 400, "InvalidRequest", "the request is no HTTP/1.1: illegal request line"),
        (b"\x16\x03\x01\x02\x00" + b"a" * 50, 400, "InvalidRequest", "this port speaks no TLS"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "InvalidRequest", "Missing mandatory Host: header"),
        (
            b"GET / HTTP/1.1\r\n" + HOST + b"content-length: -1\r\n\r\n",
            400,
            "InvalidRequest",
            "bad Content-Length",
        ),
        (
            b"GET / HTTP/1.1\r\n" + HOST + b"a: " + b"b" * 65_600,
            431,
            "LimitExceeded",
            "the head of the request has more than 64KiB: send fewer headers",
        ),
    ],
)
def test_what_is_no_http_is_told_why_and_counted(
    request_bytes: bytes,
    status: int,
    error: str,
    reason: str,
    logged: Serving,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "rankport.requests"):
        (answer,) = sent(logged, request_bytes)
    assert (answer.status, answer.headers["rankport-error"]) == (status, error)
    assert answer.json["error"]["code"] == status
    assert reason in answer.json["error"]["message"]
    assert logged.server.counts.snapshot()[Outcome.INVALID] == 1
    (line,) = (record for record in caplog.records if record.name == "rankport.requests")
    assert f"request_id={answer.headers['x-request-id']}" in line.getMessage()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_body_that_breaks_off_after_its_refusal_leaves_no_traceback(
    logged: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST /nope HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n"
    (answer,) = sent(logged, head, b"zz\r\n")
    assert answer.status == 404
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_body_that_is_none_in_the_middle_is_one_call_that_failed(logged: Serving) -> None:
    head = b"POST /rerank HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n"
    (answer,) = sent(logged, head + b"5\r\n{    \r\nzz\r\n")
    assert answer.status == 400
    assert "illegal chunk header" in answer.json["error"]["message"]
    counts = logged.server.counts
    eventually(lambda: sum(counts.snapshot().values()) == 1)


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("/rerank/", {}, 404, "no endpoint is at '/rerank/'"),
        ("/rerank", None, 405, "GET is no method of /rerank"),
    ],
)
def test_a_path_or_method_that_there_is_not_is_named_and_counted(
    path: str, body: object, status: int, told: str, logged: Serving
) -> None:
    answer = ask(logged.server.http_address, path, body, {"x-request-id": "mine"})
    assert (answer.status, answer.headers["rankport-error"]) == (status, "NotFound")
    assert answer.json["error"]["code"] == status
    assert told in answer.json["error"]["message"]
    assert answer.headers["x-request-id"] == "mine"
    assert logged.server.counts.snapshot()[Outcome.INVALID] == 1


def test_a_query_of_the_address_which_nobody_reads_is_refused(logged: Serving) -> None:
    answer = ask(logged.server.http_address, "/rerank?model=other", {"query": "a", "texts": ["b"]})
    assert (answer.status, answer.headers["rankport-error"]) == (400, "InvalidRequest")
    assert "the address has a query, 'model=other'" in answer.text


def test_no_path_of_a_client_is_a_label_of_the_metrics(logged: Serving) -> None:
    ask(logged.server.http_address, "/private")
    page = ask(logged.server.http_address, "/metrics").text
    assert 'rankport_calls_total{code="NOT_FOUND",front="http",method="",model=""} 1.0' in page
    assert "private" not in page


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (b"x-priority", (b"background", b"interactive")),
        (b"x-timeout-s", (b"1", b"2")),
        (b"x-request-id", (b"a", b"b")),
        (b"content-type", (b"application/json", b"text/plain")),
        (b"content-encoding", (b"identity", b"gzip")),
        (b"authorization", (b"Bearer secret.a", b"Bearer secret.b")),
    ],
)
def test_a_header_that_says_two_things_is_refused(
    name: bytes, values: tuple[bytes, bytes], logged: Serving
) -> None:
    head = b"POST /rerank HTTP/1.1\r\n" + HOST + b"content-length: 2\r\n"
    first, second = (name + b": " + value + b"\r\n" for value in values)
    (refused,) = sent(logged, head + first + second + b"\r\n{}")
    assert (refused.status, refused.headers["rankport-error"]) == (400, "InvalidRequest")
    assert f"{name.decode()} is given twice" in refused.text
    assert "secret" not in refused.text
    (read,) = sent(logged, head + first + first + b"\r\n{}")
    assert "query is not set" in read.text
    (look,) = sent(logged, b"GET /v1/models HTTP/1.1\r\n" + HOST + first + second + b"\r\n")
    assert (look.status, f"{name.decode()} is given twice" in look.text) == (400, True)


def test_a_request_with_two_lengths_is_refused_and_its_connection_ends(logged: Serving) -> None:
    head = b"POST /rerank HTTP/1.1\r\n" + HOST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n"
    (refused,) = sent(logged, head + b"2\r\n{}\r\n0\r\n\r\n")
    assert (refused.status, refused.headers["connection"]) == (400, "close")
    assert "content-length and transfer-encoding are both given" in refused.text
