"""Addresses of a client as gRPC takes them, and what is refused of them."""

import json
import logging
from typing import Any

import grpc
import pytest

from rankport.protos.errors import InvalidRequest, Unavailable
from rankport.sdk import AsyncClient, Client
from rankport.sdk.transport.channels import Target

NAMED = [("grpc.ssl_target_name_override", "jobs")]
TWO = ["127.0.0.1:1", "127.0.0.1:2"]


def config_of(address: Any) -> dict[str, Any]:
    options = dict(Target.of(address).options((), secure=False))
    config: dict[str, Any] = json.loads(options["grpc.service_config"])
    return config


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        ("jobs:8500", "jobs:8500"),
        ("dns:///jobs:8500", "dns:///jobs:8500"),
        ("unix:/run/rankport", "unix:/run/rankport"),
        ("unix:/run/a.0,/run/a.1", "unix:/run/a.0,/run/a.1"),
        (["unix:/run/a.0", "unix:/run/a.1"], "unix:/run/a.0,/run/a.1"),
        (["jobs:8500"], "jobs:8500"),
        (TWO, "ipv4:127.0.0.1:1,127.0.0.1:2"),
        (("localhost:1", "127.0.0.1:1", "127.0.0.1:2"), "ipv4:127.0.0.1:1,127.0.0.1:2"),
        (["[::1]:1", "127.0.0.1:2"], "ipv6:[::1]:1,[::ffff:127.0.0.1]:2"),
    ],
)
def test_an_address_and_a_list_become_a_target(address: Any, uri: str) -> None:
    assert Target.of(address).uri == uri


@pytest.mark.parametrize("cls", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("address", "leaves"),
    [
        ("localhost:1", False),
        ("[::1]:1", False),
        (["127.0.0.1:1", "127.0.0.2:1"], False),
        (["127.0.0.1:1", "[::1]:1"], False),
        ("unix:/run/a.0,/run/a.1", False),
        ("dns:///localhost:1", False),
        ("jobs:8500", True),
        ("dns:///jobs:8500", True),
        ("dns://127.0.0.1/jobs:8500", True),
        (["127.0.0.1:1", "192.0.2.1:1"], True),
        ("[2001:db8::1]:1", True),
        ("xds:///localhost", True),
    ],
)
def test_a_token_that_leaves_the_machine_in_clear_is_told(
    cls: type[Client | AsyncClient], address: Any, leaves: bool, caplog: pytest.LogCaptureFixture
) -> None:
    cls(address)
    cls(address, token="t", credentials=grpc.ssl_channel_credentials(), options=NAMED)
    assert caplog.text == ""
    cls(address, token="t")
    assert ("in clear, and others on the way can read it: give tls" in caplog.text) == leaves


def test_several_addresses_are_asked_past_a_proxy_of_the_environment() -> None:
    """It was asked for all of them as for one host, which is none."""
    for address, past in ((TWO, True), ("ipv4:127.0.0.1:1,127.0.0.1:2", True), ("jobs:8500", False)):
        options = dict(Target.of(address).options((), secure=False))
        assert ("grpc.enable_http_proxy" in options) == past


def test_servers_of_a_list_and_of_a_dns_name_are_asked_in_turn() -> None:
    for address in (TWO, "dns:///jobs:8500", "unix:/run/a.0,/run/a.1"):
        assert config_of(address)["loadBalancingConfig"] == [{"round_robin": {}}]
        assert config_of(address)["healthCheckConfig"] == {"serviceName": ""}
    assert "loadBalancingConfig" not in config_of("jobs:8500")


def test_grpc_makes_no_call_again() -> None:
    """In its core a call whose deadline meets the wait for a retry may never end."""
    assert config_of("jobs:8500") == {}
    assert "methodConfig" not in config_of(TWO)


def test_a_lost_server_is_looked_for_every_second_however_long_it_was_gone() -> None:
    options = dict(Target.of("jobs:1").options((), secure=False))
    assert options["grpc.max_reconnect_backoff_ms"] == 1000
    assert options["grpc.dns_min_time_between_resolutions_ms"] == 1000


def test_options_of_the_caller_come_over_the_defaults() -> None:
    options = Target.of("jobs:1").options([("grpc.keepalive_time_ms", 5)], secure=False)
    assert dict(options)["grpc.keepalive_time_ms"] == 5


@pytest.mark.parametrize("cls", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("address", "told"),
    [
        ([], "address is an empty list; give host:port"),
        (["a:1", "http://b:2"], "address is 'http://b:2'; give host:port"),
        (["a:1", "b"], "address is 'b'; give host:port"),
        (["a:1", "dns:///b:2"], "address 'dns:///b:2' is one of several; give each as host:port"),
        ([1, 2], "address is 1; give host:port"),
        (8500, "address is 8500; give host:port, or a list of them"),
        *(
            (address, f"address is {address!r}; give host:port")
            # gRPC would take port 443, say that no name is known, or break at the first call
            for address in ("b", "b:", ":1", "b:8 5", "b:1,c:2", "::1", "unix:", "b\udcff:1", "b\0:1")
        ),
    ],
)
def test_what_is_no_address_is_refused_at_once(cls: type, address: Any, told: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        cls(address)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    "address", ["b:1", "[::1]:1", "[fe80::1%eth0]:1", "dns:///b", "unix:/a b/c", "ipv4:1.2.3.4:5,1.2.3.5:5"]
)
def test_what_grpc_connects_to_is_taken_as_it_is(address: str) -> None:
    assert Target.of(address).uri == address


def test_a_name_that_is_not_known_is_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    unknown = "nowhere.invalid:1"
    with caplog.at_level(logging.WARNING):
        assert Target.of([unknown, "127.0.0.1:2"]).uri == "ipv4:127.0.0.1:2"
    assert "address nowhere.invalid:1 is left out" in caplog.text
    with pytest.raises(Unavailable, match=r"none of nowhere.invalid:1, nowhere.invalid:2 can be looked up"):
        Target.of([unknown, "nowhere.invalid:2"])


def test_behind_tls_several_addresses_have_the_name_of_their_one_host() -> None:
    options = dict(Target.of(["localhost:1", "localhost:2"]).options((), secure=True))
    assert options["grpc.ssl_target_name_override"] == "localhost"
    credentials = grpc.ssl_channel_credentials()
    with pytest.raises(InvalidRequest, match="are of several hosts, and TLS checks one name"):
        Client(["localhost:1", "127.0.0.1:2"], credentials=credentials)
    named = [("grpc.ssl_target_name_override", "jobs")]
    Client(["localhost:1", "127.0.0.1:2"], credentials=credentials, options=named).close()


def test_a_client_of_several_servers_changes_none() -> None:
    with (
        Client(TWO) as client,
        pytest.raises(InvalidRequest, match=r"127\.0\.0\.1:2 in turn: make one for each"),
    ):
        _ = client.admin
