"""Fate of a request over HTTP: the table of errors, limits, overload, deadlines, and clients that go away."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import pytest

from rankport.protos import errors
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.counts import Outcome
from support.servers.http import Answer, ask
from support.servers.serving import HTTP, Serving, serving

BODY = {"query": "a", "documents": ["b", "c"]}


@pytest.fixture
def fresh() -> Iterator[Serving]:
    """A server of one test."""
    with serving(HTTP) as running:
        yield running


def rerank(served: Serving, **headers: str) -> Answer:
    return ask(served.server.http_address, "/rerank", BODY, headers)


@pytest.mark.parametrize("cls", errors.HTTP_STATUSES, ids=lambda cls: cls.__name__)
def test_an_error_of_the_model_is_told_with_its_status_class_and_message(
    served: Serving, cls: type[errors.RankportError]
) -> None:
    served.ranker.fail_with = cls("item 3 is too long: 900 > 512 – naïve")
    try:
        answer = rerank(served)
    finally:
        served.ranker.fail_with = None
    assert answer.status == errors.HTTP_STATUSES[cls]
    assert answer.headers["rankport-error"] == cls.__name__
    assert answer.json["error"]["message"] == "item 3 is too long: 900 > 512 – naïve"
    assert ("retry-after" in answer.headers) == issubclass(cls, errors.Overloaded)


def test_an_unexpected_error_shows_only_its_id(fresh: Serving) -> None:
    fresh.ranker.fail_with = ZeroDivisionError("secret path")
    answer = rerank(fresh)
    assert (answer.status, answer.headers["rankport-error"]) == (500, "BackendError")
    assert "secret" not in answer.text
    incident = answer.json["error"]["message"].split(";")[0]
    assert incident in ask(fresh.server.http_address, "/").text
    assert fresh.server.counts.snapshot()[Outcome.OTHER] == 1


def test_overload_is_429_with_a_time_to_come_back() -> None:
    config = ServerConfig(port=0, http_port=0, max_pending_calls=1)
    with serving(config) as served, ThreadPoolExecutor() as threads:
        served.ranker.worker.gate.clear()
        first = threads.submit(rerank, served)
        assert served.ranker.worker.arrived.acquire(timeout=10)
        refused = rerank(served)
        assert refused.status == 429
        assert "1 request is pending, the limit is 1" in refused.json["error"]["message"]
        assert 1 <= int(refused.headers["retry-after"]) <= 8
        assert 0 < int(refused.headers["retry-after-ms"]) <= 7500
        served.ranker.worker.gate.set()
        assert first.result().status == 200
        counts = served.server.counts.snapshot()
        assert (counts[Outcome.ANSWERED], counts[Outcome.REJECTED]) == (1, 1)


def test_the_time_left_reaches_the_model(fresh: Serving) -> None:
    assert rerank(fresh, **{"x-timeout-s": "50"}).status == 200
    assert rerank(fresh).status == 200
    with_deadline, without = fresh.ranker.worker.timeouts
    assert with_deadline is not None
    assert 40 < with_deadline <= 50
    assert without is None


@pytest.mark.parametrize("timeout", ["soon", "-1", "nan"])
def test_a_timeout_that_is_none_is_refused(served: Serving, timeout: str) -> None:
    answer = rerank(served, **{"x-timeout-s": timeout})
    assert answer.status == 400
    assert f"x-timeout-s is '{timeout}': give seconds" in answer.text


def test_work_past_its_deadline_is_504(fresh: Serving) -> None:
    answer = rerank(fresh, **{"x-timeout-s": "0"})
    assert (answer.status, answer.headers["rankport-error"]) == (504, "DeadlineExceeded")
    assert fresh.server.counts.snapshot()[Outcome.DEADLINE] == 1


def test_the_work_of_a_client_that_went_away_is_dropped(fresh: Serving) -> None:
    worker = fresh.ranker.worker
    worker.gate.clear()
    connection = HTTPConnection(fresh.server.http_address)
    connection.request("POST", "/rerank", json.dumps(BODY), {"content-type": "application/json"})
    assert worker.arrived.acquire(timeout=10)
    connection.close()
    assert worker.cancelled.acquire(timeout=60)
    worker.gate.set()
    assert rerank(fresh).status == 200
    assert (worker.computed, worker.dropped) == (1, 1)
    assert fresh.server.counts.snapshot()[Outcome.CANCELLED] == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/rerank", {"query": "a", "documents": ["x"] * 4}),
        ("/rerank", {"query": "a", "texts": ["x"] * 4}),
        ("/v1/rankport/score", {"prefix": "a", "items": ["x"] * 4}),
        ("/v1/embeddings", {"input": ["x"] * 4}),
    ],
)
def test_items_are_limited_as_over_grpc(small: Serving, path: str, body: object) -> None:
    answer = ask(small.server.http_address, path, body)
    assert answer.status == 413
    assert "the request has 4 items, this server takes 3 (max_request_items)" in answer.text


@pytest.fixture(scope="module")
def small() -> Iterator[Serving]:
    """A server of small limits."""
    limits = {"max_request_items": 3, "max_request_tokens": 50, "max_message_bytes": 2000}
    with serving(ServerConfig(port=0, http_port=0, stream_idle_s=0.2, **limits)) as running:
        yield running


def test_tokens_are_limited_as_over_grpc(small: Serving) -> None:
    body = {"prefix": "a", "items": [{"token_ids": [1] * 51}]}
    answer = ask(small.server.http_address, "/v1/rankport/score", body)
    assert answer.status == 413
    assert "the request has 51 tokens" in answer.text


def test_a_body_is_limited_by_what_it_says_of_itself(small: Serving) -> None:
    with socket.create_connection(("127.0.0.1", int(small.server.http_address.split(":")[1]))) as raw:
        raw.sendall(b"POST /rerank HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_body_is_limited_while_it_is_read(small: Serving) -> None:
    connection = HTTPConnection(small.server.http_address)
    parts = iter([b"x" * 1000] * 3)
    connection.request("POST", "/rerank", parts, {"content-type": "application/json"}, encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status == 413
    assert b"max_message_bytes" in answer.read()
    connection.close()


def test_many_small_values_are_refused_before_they_are_parsed(small: Serving) -> None:
    answer = ask(small.server.http_address, "/rerank", raw=b'{"documents":[' + b"[]," * 200 + b"[]]}")
    assert answer.status == 413
    assert "the body has about 403 values, this server takes 125" in answer.text


def test_a_body_that_does_not_come_ends_the_request(small: Serving) -> None:
    with socket.create_connection(("127.0.0.1", int(small.server.http_address.split(":")[1]))) as raw:
        raw.sendall(b"POST /rerank HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        answer = b""
        while not answer.endswith(b"}"):
            answer += raw.recv(1000)
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert b"sent nothing of the body for 0.2 s" in answer


@pytest.mark.parametrize("head", [b"", b"POST /rerank HTTP/1.1\r\nhost: x\r\n"])
def test_a_request_that_does_not_come_ends_the_connection(small: Serving, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", int(small.server.http_address.split(":")[1]))) as raw:
        raw.sendall(head)
        raw.settimeout(10)
        assert raw.recv(1000) == b""


@pytest.mark.parametrize(
    ("raw", "headers", "says"),
    [
        (b"{", {}, "the body is no JSON: EOF while parsing an object"),
        (b"", {}, "the body is no JSON"),
        (b"\xff{}", {}, "the body is no JSON"),
        (b'{"query": "\\ud800", "documents": []}', {}, "the body is no JSON"),
        (b"[" * 900, {}, "the body is no JSON: recursion limit exceeded"),
        (b"[]", {}, "Input should be an object"),
        (b"{}", {"content-type": "text/plain"}, "content-type is 'text/plain': send application/json"),
        (b"{}", {"content-type": "", "origin": "http://page"}, "content-type is '': send application/json"),
        (b"{}", {"content-encoding": "gzip"}, "content-encoding is 'gzip': send the body as it is"),
    ],
)
def test_what_is_no_json_is_refused(served: Serving, raw: bytes, headers: dict[str, str], says: str) -> None:
    answer = ask(served.server.http_address, "/v1/rerank", headers=headers, raw=raw)
    assert answer.status == 400
    assert says in answer.json["error"]["message"]


def test_other_paths_and_methods_are_refused(served: Serving) -> None:
    address = served.server.http_address
    assert ask(address, "/v1/responses", {}).status == 404
    answer = ask(address, "/rerank")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert answer.json["error"]["message"] == "GET is no method of /rerank: use POST"


def test_a_request_keeps_the_name_that_its_client_gave_it(served: Serving) -> None:
    assert rerank(served, **{"x-request-id": "mine-7"}).headers["x-request-id"] == "mine-7"
    assert len(rerank(served).headers["x-request-id"]) == 16


def test_many_objects_are_refused_before_they_are_parsed() -> None:
    config = ServerConfig(port=0, http_port=0, max_request_items=3)
    with serving(config) as served:
        address = served.server.http_address
        fit = ask(address, "/rerank", {"query": 'quoted "words"' * 10_000, "documents": [{"text": "b"}] * 3})
        assert fit.status == 200
        refused = ask(address, "/rerank", raw=b'{"documents":[' + b'{"text":"a"},' * 5100 + b'""]}')
    assert refused.status == 413
    assert "the body has about 10202 texts and names, this server takes 10012, 4 an item" in refused.text
