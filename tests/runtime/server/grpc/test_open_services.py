"""Calls that need no token, and what reaches the server before one is asked for: bounded, however they are meant."""

import os
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
            taken_back = frame(1, stream, headers(b"/rankport.v1.Scoring/Score"), flags=4) + frame(
                3, stream, struct.pack(">I", 8)
            )
            connection.sendall(taken_back)
    assert resident_bytes() - before < 250 * 2**20  # else 440 MB


def frame(kind: int, stream: int, content: bytes = b"", *, flags: int = 0) -> bytes:
    """A frame of HTTP/2."""
    return struct.pack(">I", len(content))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + content


def literal(name: bytes, value: bytes) -> bytes:
    """A header of HTTP/2 as it is, in no table."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def headers(path: bytes) -> bytes:
    """Headers of a call."""
    return b"".join(
        literal(name, value)
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"localhost"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        )
    )


@contextmanager
def takes_no_answers(address: str, path: bytes, calls: int) -> Iterator[Iterator[tuple[int, int, bytes]]]:
    """A connection with calls of an empty message, and no window for answers. Kinds, streams and contents of frames."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20.0) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, struct.pack(">HI", 4, 0)))
        connection.sendall(frame(4, 0, flags=1))
        for stream in range(1, 2 * calls, 2):
            connection.sendall(frame(1, stream, headers(path), flags=4) + frame(0, stream, bytes(5), flags=1))

        def frames() -> Iterator[tuple[int, int, bytes]]:
            with connection.makefile("rb") as read:
                while head := read.read(9):
                    content = read.read(int.from_bytes(head[:3]))
                    if head[3] == 6:  # a ping
                        connection.sendall(frame(6, 0, content, flags=1))
                    yield head[3], int.from_bytes(head[5:]), content

        yield frames()


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


@pytest.mark.parametrize("path", [b"/grpc.health.v1.Health/Check", KSERVE.encode() + b"ServerLive"])
def test_calls_whose_answers_nobody_takes_are_bounded(served: Serving, path: bytes) -> None:
    with takes_no_answers(served.address, path, 3) as frames:
        refused_first = next(frame for frame in frames if b"grpc-status" in frame[2])
        assert refused_first[:2] == (1, 5)  # headers, of the third call
        assert b"grpc-status\x018" in refused_first[2]  # RESOURCE_EXHAUSTED


def test_calls_of_all_connections_leave_each_a_few_of_its_own() -> None:
    asked = health_pb2.HealthCheckRequest()
    own_connection = [("grpc.use_local_subchannel_pool", 1)]
    with (
        serving(replace(LOCAL, max_connections=5)) as running,
        grpc.insecure_channel(running.address, own_connection) as many,
        grpc.insecure_channel(running.address, own_connection) as few,
    ):
        kept: list[Iterator[health_pb2.HealthCheckResponse]] = []
        for channel, room in ((many, 5), (few, 4)):
            watch = health_pb2_grpc.HealthStub(channel).Watch
            for _ in range(room):
                kept.append(watch(asked, timeout=30))
                next(kept[-1])
            with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "of 5 (max_connections)"):
                next(watch(asked, timeout=10))


def test_a_watcher_that_takes_nothing_holds_up_no_other_and_no_stop() -> None:
    asked = health_pb2.HealthCheckRequest()
    with (
        serving(LOCAL) as running,
        grpc.insecure_channel(running.address) as channel,
        takes_no_answers(running.address, b"/grpc.health.v1.Health/Watch", 1) as frames,
        ThreadPoolExecutor() as threads,
    ):
        next(frame for frame in frames if frame[0] == 1)  # headers of its answer, which has no room
        told = health_pb2_grpc.HealthStub(channel).Watch(asked, timeout=20)
        assert next(told).status == health_pb2.HealthCheckResponse.SERVING
        stopping = threads.submit(running.server.stop)
        assert next(told).status == health_pb2.HealthCheckResponse.NOT_SERVING
        stopping.result(20.0)
