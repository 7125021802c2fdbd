"""Addresses that others reach, and what they need."""

import re

import pytest

from rankport.protos.errors import InvalidRequest
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.security.config import SecurityConfig
from rankport.runtime.server.security.exposure import check_exposure, is_local


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]", "unix:/run/x.sock"])
def test_loopback_and_unix_sockets_are_local(host: str) -> None:
    assert is_local(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "no.such.host.invalid", ""])
def test_all_else_is_reached_by_others(host: str) -> None:
    assert not is_local(host)


@pytest.mark.parametrize(
    ("security", "lacking"),
    [
        (SecurityConfig(), r"without TLS .* and without tokens .* or clients' certificates"),
        (SecurityConfig(token_file="t"), r"without TLS \(tls_cert, tls_key\): give them"),
        (SecurityConfig(tls_cert="c", tls_key="k"), r"without tokens"),
    ],
)
def test_a_public_address_without_protection_is_refused_by_name(
    security: SecurityConfig, lacking: str
) -> None:
    check_exposure({"host": "127.0.0.1"}, security)
    with pytest.raises(InvalidRequest, match=r"http_host 0\.0\.0\.0 is reached by others, " + lacking):
        check_exposure({"host": "127.0.0.1", "http_host": "0.0.0.0"}, security)


@pytest.mark.parametrize(
    "security",
    [
        SecurityConfig(insecure_public=True),
        SecurityConfig(tls_cert="c", tls_key="k", token_file="t"),
        SecurityConfig(tls_cert="c", tls_key="k", tls_client_ca="a"),
    ],
)
def test_a_public_address_is_taken_with_protection_or_by_word(security: SecurityConfig) -> None:
    check_exposure({"host": "0.0.0.0"}, security)


def test_addresses_count_where_they_are_listened_on() -> None:
    assert ServerConfig().hosts == {"host": "127.0.0.1"}
    config = ServerConfig(http_port=0, http_host="::", security=SecurityConfig(admin_port=0))
    assert config.hosts == {"host": "127.0.0.1", "http_host": "::", "admin_host": "127.0.0.1"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"tls_cert": "c"},
            "tls_cert (--tls-cert) is 'c' without tls_key (--tls-key), which it is for: give both",
        ),
        ({"tls_key": "k"}, "tls_key (--tls-key) is 'k' without tls_cert (--tls-cert)"),
        ({"tls_client_ca": "a"}, "tls_client_ca (--tls-client-ca) is 'a' without tls_cert (--tls-cert)"),
        ({"admin_host": "::1"}, "admin_host (--admin-host) is '::1' without admin_port (--admin-port)"),
    ],
)
def test_options_that_need_another_are_told(given: dict[str, str], told: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(told)):
        SecurityConfig(**given)  # type: ignore[arg-type]
