"""Options of gRPC's core: it takes any name, and goes by those that it knows."""

from pathlib import Path

import grpc
import pytest

from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.grpc.options import server_options
from rankport.sdk.transport.channels import Target
from support.servers.serving import GRPCIO


@pytest.fixture(scope="module")
def core() -> bytes:
    """Code of gRPC's core, which holds the names of its options."""
    (library,) = (
        file for file in Path(grpc.__file__).parent.rglob("cygrpc*") if file.suffix in (".so", ".pyd")
    )
    return library.read_bytes()


@pytest.mark.skipif(GRPCIO < (1, 80), reason="some options are of later versions")
def test_a_server_sets_options_that_there_are(core: bytes) -> None:
    config = ServerConfig(max_connection_age_s=60, max_unread_bytes=65_536)
    assert [name for name, _ in server_options(config) if f"{name}\0".encode() not in core] == []


def test_a_client_sets_options_that_there_are(core: bytes) -> None:
    options = Target.of(["10.0.0.1:1", "10.0.0.1:2"]).options((), secure=True)
    assert [name for name, _ in options if f"{name}\0".encode() not in core] == []


def test_a_server_takes_the_pings_of_clients(core: bytes) -> None:
    """Else it ends the connection of a call that has nothing to say for two minutes: clients ping it each 30 s."""
    options = dict(server_options(ServerConfig()))
    pings_ms = dict(Target.of("jobs:1").options((), secure=False))["grpc.keepalive_time_ms"]
    assert options["grpc.http2.min_ping_interval_without_data_ms"] < pings_ms
    assert b"grpc.http2.min_ping_interval_without_data_ms\0" in core


def test_calls_that_no_service_has_seen_are_bounded() -> None:
    """Calls that a client takes back at once count for no connection."""
    options = dict(server_options(ServerConfig()))
    assert options["grpc.server.max_pending_requests_hard_limit"] == 10_000
