"""Calls that need no token, and what reaches the server before one is asked for: bounded, however they are meant."""

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from rankport.runtime.server.security.config import SecurityConfig
from rankport.runtime.server.security.tokens import Limits, line_of, new_token
from support.effort import full_effort
from support.servers.serving import LOCAL, Serving, serving

KSERVE = "/inference.GRPCInferenceService/"
LARGE = "x" * 17_000
TOKEN = new_token("caller")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server that asks for tokens, takes two streams of a connection, and waits for nobody."""
    file: Path = tmp_path_factory.mktemp("clients") / "clients.txt"
    file.write_text(line_of(TOKEN, ["call"], Limits()) + "\n")
    security = SecurityConfig(token_file=str(file))
    with serving(replace(LOCAL, security=security, max_connection_streams=2, stream_idle_s=0.1)) as serving_:
        yield serving_


@pytest.fixture
def channel(served: Serving) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served.address) as opened:
        yield opened


@contextmanager
def refused(code: grpc.StatusCode, words: str) -> Iterator[None]:
    with pytest.raises(grpc.RpcError) as raised:
        yield
    assert raised.value.code() is code  # type: ignore[attr-defined]
    assert words in raised.value.details()  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["/grpc.health.v1.Health/Check", "/rankport.v1.Scoring/Score"])
@pytest.mark.parametrize("how", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages_are_refused(channel: grpc.Channel, method: str, how: grpc.Compression) -> None:
    """A quarter of a mebibyte would become 256 of them in memory, before anybody asks for a token."""
    with refused(grpc.StatusCode.UNIMPLEMENTED, f"'{how.name.lower()}' is disabled"):
        channel.unary_unary(method)(b"\n\x04" + b"aaaa", timeout=10, compression=how)


def test_large_messages_are_refused_without_a_look_at_them(channel: grpc.Channel) -> None:
    large = health_pb2.HealthCheckRequest(service=LARGE)
    health = health_pb2_grpc.HealthStub(channel)
    words = "calls that need no token take 16384"
    with refused(grpc.StatusCode.INVALID_ARGUMENT, f"the message has {large.ByteSize()} bytes, {words}"):
        health.Check(large, timeout=10)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, words):
        next(health.Watch(large, timeout=10))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, words):
        channel.unary_unary(KSERVE + "ServerReady")(large.SerializeToString(), timeout=10)
    reflected = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    asked = reflection_pb2.ServerReflectionRequest(file_by_filename=LARGE)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, words):
        next(reflected(iter([asked]), timeout=10))


@pytest.mark.parametrize(
    "method", ["/grpc.health.v1.Health/Check", KSERVE + "ServerLive", "/rankport.v1.Scoring/Score"]
)
def test_a_message_that_does_not_come_ends_its_call(channel: grpc.Channel, method: str) -> None:
    """gRPC would keep what came of it for as long as the connection lasts."""
    never = threading.Event()
    metadata = [("authorization", f"Bearer {TOKEN}")]
    messages = iter(lambda: never.wait(), True)
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "no whole message within 0.1 s"):
        channel.stream_unary(method)(messages, timeout=10, metadata=metadata)
    never.set()


def test_reflection_ends_once_its_client_asks_nothing_more(channel: grpc.Channel) -> None:
    never = threading.Event()

    def asked() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        never.wait()

    answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked(), timeout=10)
    assert next(answers).list_services_response.service
    assert next(answers, None) is None
    never.set()


@full_effort
def test_calls_that_are_taken_back_at_once_take_no_memory(served: Serving) -> None:
    """They count for no connection. Each held 15 kB before a service saw it, and of these much was never given back."""
    before = resident_bytes()
    host, _, port = served.address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0) + frame(4, 0, flags=1))
        for stream in range(1, 100_001, 2):
            taken_back = frame(1, stream, HEADERS, flags=4) + frame(3, stream, struct.pack(">I", 8))
            connection.sendall(taken_back)
    assert resident_bytes() - before < 250 * 2**20  # else 440 MB


def frame(kind: int, stream: int, content: bytes = b"", *, flags: int = 0) -> bytes:
    """A frame of HTTP/2."""
    return struct.pack(">I", len(content))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + content


def literal(name: bytes, value: bytes) -> bytes:
    """A header of HTTP/2 as it is, in no table."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


HEADERS = b"".join(
    literal(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/rankport.v1.Scoring/Score"),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
)


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_watches_of_one_connection_are_bounded(channel: grpc.Channel) -> None:
    watch = health_pb2_grpc.HealthStub(channel).Watch
    kept = [watch(health_pb2.HealthCheckRequest(), timeout=30) for _ in range(2)]
    assert all(next(answers).status == health_pb2.HealthCheckResponse.SERVING for answers in kept)
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "the limit is 2 (max_connection_streams)"):
        next(watch(health_pb2.HealthCheckRequest(), timeout=10))
    for answers in kept:
        answers.cancel()
