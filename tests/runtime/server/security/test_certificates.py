"""Certificates over both fronts: TLS, clients' own, and files that change under a running server."""

import logging
import os
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rankport.protos.errors import InvalidRequest, Unavailable
from rankport.runtime.server.security.certificates import Certificates
from rankport.runtime.server.security.config import SecurityConfig
from rankport.sdk.client import Client
from rankport.sdk.transport.access import Tls
from support.certificates import CertificateFiles
from support.file_limits import no_more_files
from support.servers.serving import GRPCIO, HTTP, LOCAL, Serving, serving


def secured(files: CertificateFiles, *, mutual: bool = False) -> SecurityConfig:
    ca = str(files.ca) if mutual else None
    return SecurityConfig(tls_cert=str(files.cert), tls_key=str(files.key), tls_client_ca=ca)


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    return CertificateFiles.written(tmp_path / "server")


@pytest.fixture
def running(files: CertificateFiles) -> Iterator[Serving]:
    config = replace(LOCAL, host="localhost", http_port=0, http_host="localhost", security=secured(files))
    with serving(config) as served:
        yield served


def shown(address: str, alpn: str) -> bytes:
    """Fetches the certificate that a port shows."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain) as connection:
        certificate = connection.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


def issued(files: CertificateFiles) -> bytes:
    first = files.cert.read_text().partition("-----END CERTIFICATE-----")[0]
    return ssl.PEM_cert_to_DER_cert(first + "-----END CERTIFICATE-----\n")


def test_calls_come_over_tls_and_not_in_clear(running: Serving, files: CertificateFiles) -> None:
    with Client(running.address, tls=files.tls, timeout_s=10) as client:
        assert client.models()
    with (
        Client(running.address, timeout_s=10, retry=False) as client,
        pytest.raises(Unavailable, match=r"if the server speaks TLS there, give tls=Tls\(ca=FILE\)"),
    ):
        client.models()
    stranger = CertificateFiles.written(files.ca.parent.parent / "other", by="others")
    with (
        Client(running.address, tls=stranger.tls, timeout_s=10, retry=False) as client,
        pytest.raises(
            Unavailable, match=r"certificate is of no authority known here, .*: give tls=Tls\(ca=FILE\)"
        ),
    ):
        client.models()


def test_a_server_in_clear_is_told_to_who_asks_for_tls(files: CertificateFiles) -> None:
    with (
        serving() as clear,
        Client(clear.address, tls=files.tls, timeout_s=10, retry=False) as client,
        pytest.raises(Unavailable, match="the server speaks no TLS there: leave tls "),
    ):
        client.models()


def test_new_connections_get_a_new_certificate_and_open_ones_go_on(
    running: Serving, files: CertificateFiles
) -> None:
    ports = ((running.address, "h2"), (running.server.http_address, "http/1.1"))
    before = issued(files)
    with Client(running.address, tls=files.tls, timeout_s=10) as client:
        client.models()
        assert [shown(*port) for port in ports] == [before] * 2
        CertificateFiles.written(files.cert.parent, by="successors")
        after = issued(files)
        assert after != before
        assert [shown(*port) for port in ports] == [after] * 2
        client.models()
    with Client(running.address, tls=files.tls, timeout_s=10) as client:  # the authority is new as well
        client.models()


def test_files_that_do_not_go_together_change_nothing(
    running: Serving, files: CertificateFiles, caplog: pytest.LogCaptureFixture
) -> None:
    before, key = issued(files), files.key.read_bytes()
    CertificateFiles.written(files.cert.parent)
    successor = files.key.read_bytes()
    with caplog.at_level(logging.ERROR):
        files.key.write_bytes(key)  # the first of two is written
        assert shown(running.address, "h2") == before
    assert "the certificate stays as it was" in caplog.text
    files.key.write_bytes(successor)
    assert shown(running.address, "h2") == issued(files) != before
    os.unlink(files.key)
    assert shown(running.address, "h2") == issued(files)


def test_files_that_cannot_be_opened_for_a_while_are_read_once_they_can(
    files: CertificateFiles, caplog: pytest.LogCaptureFixture
) -> None:
    context = Certificates(str(files.cert), str(files.key)).ssl_context()

    def issuer() -> str:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        asks = client.wrap_bio(to_client, to_server)
        answers = context.wrap_bio(to_server, to_client, server_side=True)
        for end in (asks, answers, asks):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
        shown = asks.getpeercert(binary_form=True)
        assert shown is not None
        return "successors" if b"successors" in shown else "tests"

    CertificateFiles.written(files.cert.parent, by="successors")
    with no_more_files():
        assert [issuer(), issuer()] == ["tests", "tests"]
    assert caplog.text.count("the certificate stays as it was: ") == 1
    assert issuer() == "successors"


def test_clients_need_a_certificate_where_an_authority_of_theirs_is_given(files: CertificateFiles) -> None:
    config = replace(LOCAL, host="localhost", security=secured(files, mutual=True))
    with serving(config) as served:
        with Client(served.address, tls=files.mutual, timeout_s=10) as client:
            assert client.models()
        unknown = Client(served.address, tls=files.tls, timeout_s=10, retry=False)
        with unknown, pytest.raises(Unavailable):
            unknown.models()


def test_http_asks_for_the_same_certificates(files: CertificateFiles) -> None:
    config = replace(
        LOCAL, host="localhost", http_port=0, http_host="localhost", security=secured(files, mutual=True)
    )
    with serving(config) as served:
        url = f"https://{served.server.http_address}/health/ready"
        own = ssl.create_default_context(cafile=str(files.ca))
        own.load_cert_chain(str(files.cert), str(files.key))
        with urllib.request.urlopen(url, timeout=10, context=own) as answer:
            assert answer.status == 200
        none = ssl.create_default_context(cafile=str(files.ca))
        with pytest.raises(OSError, match=r"certificate required|closed connection|reset"):
            urllib.request.urlopen(url, timeout=10, context=none)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_ends_with_the_authority_of_its_certificate(
    files: CertificateFiles, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """A client that takes up a session again shows no certificate."""
    theirs = CertificateFiles.written(tmp_path / "theirs", by="theirs")
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes(theirs.ca.read_bytes())
    context = ssl.create_default_context(cafile=str(files.ca))
    context.load_cert_chain(str(theirs.cert), str(theirs.key))
    context.maximum_version = version
    security = replace(secured(files), tls_client_ca=str(authorities))
    with serving(replace(HTTP, host="localhost", http_host="localhost", security=security)) as served:
        port = int(served.server.http_address.rpartition(":")[2])

        def asked(session: ssl.SSLSession | None) -> ssl.SSLSession | None:
            with (
                socket.create_connection(("localhost", port), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname="localhost", session=session) as encrypted,
            ):
                encrypted.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                if not encrypted.recv(15) == b"HTTP/1.1 200 OK":
                    raise ConnectionError
                return encrypted.session

        session = asked(None)
        authorities.write_bytes(files.ca.read_bytes())
        with pytest.raises(OSError):
            asked(session)


def test_files_that_cannot_be_used_are_told_by_name(files: CertificateFiles, tmp_path: Path) -> None:
    none, text = str(tmp_path / "none.pem"), tmp_path / "text.pem"
    text.write_text("no certificate")
    cert, key = str(files.cert), str(files.key)
    for given, told in (
        ((none, key), "none.pem cannot be read: No such file"),
        ((str(text), key), "text.pem and .*key.pem are no certificate and its key"),
        ((cert, key, str(text)), "text.pem has no certificate in PEM"),
    ):
        with pytest.raises(InvalidRequest, match=told):
            Certificates(*given)
    with pytest.raises(InvalidRequest, match=r"none\.pem cannot be read"):
        Tls(ca=none).credentials()
    with pytest.raises(InvalidRequest, match=r"text\.pem has no certificate in PEM"):
        Tls(ca=str(text)).credentials()
    with pytest.raises(InvalidRequest, match=r"cert\.pem has no private key in PEM"):
        Tls(cert=cert, key=cert).credentials()
    with pytest.raises(InvalidRequest, match="cert is 'c' and key None"):
        Tls(cert="c")


@pytest.mark.parametrize(
    ("written", "told", "logged"),
    [
        ({"days": (-60, -30)}, "TLS certificate has: renew it there", "certificate has expired"),
        ({"days": (10, 60)}, "TLS certificate is of later: replace it", "certificate is not yet valid"),
        ({"names": ("elsewhere.example",)}, "TLS certificate is of another name: call it by that", ""),
    ],
    ids=["expired", "of later", "of another name"],
)
def test_a_certificate_that_clients_refuse_is_told_by_why(
    written: dict[str, Any], told: str, logged: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = CertificateFiles.written(tmp_path / "server", **written)
    config = replace(LOCAL, host="localhost", security=secured(files))
    with (
        serving(config) as served,
        Client(served.address, tls=files.tls, timeout_s=10, retry=False) as client,
        pytest.raises(Unavailable, match=told if "another" in told or GRPCIO >= (1, 80) else "not of today"),
    ):
        client.models()
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    cert = files.cert
    assert errors == ([f"certificate {cert} is used, and clients refuse it: {logged}"] if logged else [])
