"""Clients that keep connections, or take for ever to send: they end, or give way, and others are answered."""

import json
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPSConnection, RemoteDisconnected
from pathlib import Path
from typing import Any

import pytest

from rankport.protos.generation import GeneratedPart, GenerateResult, GenerateUsage
from rankport.runtime.scheduling.futures import resolved
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.counts import Outcome
from rankport.runtime.server.security.config import SecurityConfig
from rankport.runtime.server.server import Server
from support.certificates import CertificateFiles
from support.servers.deterministic_models import DeterministicRanker
from support.servers.http import ask
from support.servers.serving import Serving, serving
from support.servers.supervised import eventually

HEAD = b"POST /rerank HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n"
QUESTION = {"query": "a", "texts": ["b"]}


@pytest.fixture
def full() -> Iterator[Serving]:
    """A server that takes three connections."""
    with serving(ServerConfig(port=0, http_port=0, grace_s=5.0, max_connections=3)) as served:
        yield served


def connected(served: Serving) -> socket.socket:
    host, port = served.server.http_address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=30.0)


def ended(connection: socket.socket) -> bool:
    """Waits for the end of a connection."""
    with suppress(ConnectionError):
        return connection.recv(1) == b""
    return True


def test_connections_without_a_whole_request_give_way_the_oldest_first(full: Serving) -> None:
    address, counts = full.server.http_address, full.server.counts
    with ExitStack() as stack:
        kept = [stack.enter_context(connected(full)) for _ in range(3)]
        kept[1].sendall(b"POST /rer")
        kept[2].sendall(HEAD + b"{")
        assert ask(address, "/rerank", QUESTION).status == 200
        assert ended(kept[0])
        for _ in range(3):
            stack.enter_context(connected(full))
        assert ended(kept[1])
        assert ended(kept[2])
        assert ask(address, "/rerank", QUESTION).status == 200
    eventually(lambda: counts.snapshot()[Outcome.CANCELLED] == 1)
    assert counts.snapshot()[Outcome.ANSWERED] == 2


def test_requests_that_are_answered_keep_their_places(full: Serving) -> None:
    full.ranker.worker.gate.clear()
    address = full.server.http_address
    with ThreadPoolExecutor(3) as pool:
        working = [pool.submit(ask, address, "/rerank", QUESTION) for _ in range(3)]
        for _ in range(3):
            assert full.ranker.worker.arrived.acquire(timeout=30.0)
        with pytest.raises((ConnectionError, RemoteDisconnected)):
            ask(address, "/rerank", QUESTION)
        full.ranker.worker.gate.set()
        assert [answer.result().status for answer in working] == [200, 200, 200]
    assert ask(address, "/rerank", QUESTION).status == 200


def test_an_address_that_holds_many_connections_closes_its_own_and_keeps_no_other_out() -> None:
    config = ServerConfig(port=0, http_port=0, grace_s=5.0, max_connections=8, http_max_address_connections=2)
    with serving(config) as served, ExitStack() as stack:
        host, port = served.server.http_address.rsplit(":", 1)

        def connected_from(address: str) -> socket.socket:
            return stack.enter_context(socket.create_connection((host, int(port)), 30.0, (address, 0)))

        other = connected_from("127.0.0.2")
        kept = [connected_from("127.0.0.3") for _ in range(5)]
        assert all(map(ended, kept[:3]))
        assert ask(served.server.http_address, "/rerank", QUESTION).status == 200
        for connection in (other, *kept[3:]):
            connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_an_address_all_of_whose_requests_are_answered_gets_no_further_connection() -> None:
    config = ServerConfig(port=0, http_port=0, grace_s=5.0, http_max_address_connections=2)
    with serving(config) as served, ThreadPoolExecutor(2) as pool:
        served.ranker.worker.gate.clear()
        address = served.server.http_address
        working = [pool.submit(ask, address, "/rerank", QUESTION) for _ in range(2)]
        for _ in range(2):
            assert served.ranker.worker.arrived.acquire(timeout=30.0)
        with pytest.raises((ConnectionError, RemoteDisconnected)):
            ask(address, "/health/live")
        served.ranker.worker.gate.set()
        assert [answer.result().status for answer in working] == [200, 200]


def test_a_body_that_comes_byte_by_byte_is_ended() -> None:
    with serving(ServerConfig(port=0, http_port=0, grace_s=5.0, stream_idle_s=0.5)) as served:
        with connected(served) as connection:
            connection.sendall(HEAD)
            connection.settimeout(0.05)
            answer = b""
            while not answer:
                connection.sendall(b" ")
                with suppress(TimeoutError):
                    answer = connection.recv(200)
        assert answer.startswith(b"HTTP/1.1 504 ")
        assert served.server.counts.snapshot()[Outcome.DEADLINE] == 1
        assert ask(served.server.http_address, "/rerank", QUESTION).status == 200


def test_handshakes_that_never_end_give_way_the_oldest_first(tmp_path: Path) -> None:
    files = CertificateFiles.written(tmp_path)
    security = SecurityConfig(tls_cert=str(files.cert), tls_key=str(files.key))
    config = ServerConfig(port=0, http_port=0, grace_s=5.0, max_connections=3, security=security)
    with serving(config) as served, ExitStack() as stack:
        begun = [stack.enter_context(connected(served)) for _ in range(6)]
        for connection in begun:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01")  # of a message of 512 bytes
        assert ended(begun[0])
        host, port = served.server.http_address.rsplit(":", 1)
        trusting = ssl.create_default_context(cafile=str(files.ca))
        client = HTTPSConnection(host, int(port), timeout=30.0, context=trusting)
        client.request("GET", "/health/live")
        assert client.getresponse().status == 200
        client.close()
        assert ended(begun[3])
        begun[5].settimeout(0.2)
        with pytest.raises(TimeoutError):
            begun[5].recv(1)


def established(port: int) -> bool:
    """Says whether a server has a connection at a port, as the kernel lists them."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "01" for line in lines)


class Writing(DeterministicRanker):
    """Generator of a text that no buffer of a connection holds."""

    capabilities = frozenset({"generates"})
    finds_beams = False

    def submit_generate(self, *given: object, on_part: Callable[[GeneratedPart], None], **_: object) -> Any:
        parts = [GeneratedPart("x" * 2**20, token) for token in range(16)]
        for part in parts:
            on_part(part)
        text = "".join(part.text for part in parts)
        return resolved(GenerateResult(text, (*range(16),), "length", GenerateUsage(0, 1, 16, 0.0, 0.0, 0.0)))


def test_a_connection_whose_events_nobody_reads_ends_with_them(caplog: pytest.LogCaptureFixture) -> None:
    body = json.dumps({"prompt": "a", "stream": True}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    config = ServerConfig(port=0, http_port=0, grace_s=5.0, stream_idle_s=0.1)
    with Server({"writer": Writing()}, config) as server, socket.socket() as connection:
        host, port = server.http_address.rsplit(":", 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        connection.sendall(head + body)
        eventually(lambda: "a client did not read its answer and is cut off" in caplog.text)
        eventually(lambda: not established(int(port)))
        assert server.counts.snapshot()[Outcome.DEADLINE] == 1
        assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_connection_whose_answer_nobody_reads_ends_with_it(caplog: pytest.LogCaptureFixture) -> None:
    body = json.dumps({"prefix": "a", "items": ["b"] * 100_000}).encode()
    head = b"POST /v1/rankport/score HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    with (
        serving(ServerConfig(port=0, http_port=0, grace_s=5.0, stream_idle_s=0.5)) as served,
        socket.socket() as connection,
    ):
        host, port = served.server.http_address.rsplit(":", 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        connection.sendall(head + body)
        eventually(lambda: "a client did not read its answer and is cut off" in caplog.text)
        eventually(lambda: not established(int(port)))
        assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
