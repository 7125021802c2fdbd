"""Redis behind TLS: the authority of the URL decides, a client shows a certificate of its own, refusals are named."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest

from rankport.protos.errors import StoreError
from rankport.runtime.store.contract import TokenEntry
from rankport.runtime.store.opening import open_store
from support.certificates import CertificateFiles
from support.servers.redis_server import RedisServer
from support.servers.tls_proxy import tls_proxy
from support.token_samples import ENCODER, HASH, SPEC


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    return CertificateFiles.written(tmp_path / "tls")


@pytest.fixture
def port(server: RedisServer, files: CertificateFiles) -> Iterator[int]:
    with tls_proxy(server.socket, files) as port:
        yield port


def url(port: int, **options: Path | float) -> str:
    return f"rediss://localhost:{port}/0?{urlencode(options)}"


def check_round_trip(location: str) -> None:
    """Writes and reads a store."""
    tokens = np.arange(8, dtype=np.float16).reshape(2, 4)
    with open_store(location, create=True) as store:
        store.namespace(ENCODER, SPEC, create=True).put_many([TokenEntry("a", tokens, HASH)])
    with open_store(location, read_only=True) as store:
        np.testing.assert_array_equal(store.namespace(ENCODER).read(["a"]).tokens, tokens[None])


def test_a_store_behind_tls_is_written_and_read(port: int, files: CertificateFiles) -> None:
    check_round_trip(url(port, ssl_ca_certs=files.ca))


def test_a_client_shows_a_certificate_of_its_own(server: RedisServer, files: CertificateFiles) -> None:
    with tls_proxy(server.socket, files, mutual=True) as port:
        check_round_trip(url(port, ssl_ca_certs=files.ca, ssl_certfile=files.cert, ssl_keyfile=files.key))
        with pytest.raises(StoreError, match=f"rediss://localhost:{port}"):
            open_store(url(port, ssl_ca_certs=files.ca, retry_s=0.1), read_only=True)


def test_an_authority_that_did_not_issue_the_certificate_is_named_at_once(
    port: int, files: CertificateFiles, tmp_path: Path
) -> None:
    others = CertificateFiles.written(tmp_path / "others", by="others")
    for location in (url(port, ssl_ca_certs=others.ca, retry_s=3600), url(port, retry_s=3600)):
        with pytest.raises(StoreError, match=r"CERTIFICATE_VERIFY_FAILED.*ssl_ca_certs=FILE"):
            open_store(location, read_only=True)


def test_a_certificate_of_another_name_is_told_at_once(port: int, files: CertificateFiles) -> None:
    elsewhere = url(port, ssl_ca_certs=files.ca, retry_s=3600).replace(
        "localhost", "127.1"
    )  # its address all the same
    with pytest.raises(StoreError, match=r"CERTIFICATE_VERIFY_FAILED.*127\.1"):
        open_store(elsewhere, read_only=True)


def test_a_store_behind_tls_that_restarts_is_read_again(
    port: int, server: RedisServer, files: CertificateFiles
) -> None:
    location = url(port, ssl_ca_certs=files.ca)
    check_round_trip(location)
    with open_store(location, read_only=True) as store:
        namespace = store.namespace(ENCODER)
        server.kill()
        with pytest.raises(StoreError, match=f"rediss://localhost:{port}.*no answer of Redis"):
            namespace.read(["a"])
        server.start()
        assert namespace.read(["a"]).tokens.shape == (1, 2, 4)


def test_an_authority_that_is_no_file_is_told_with_its_name(port: int, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"absent\.pem"):
        open_store(url(port, ssl_ca_certs=tmp_path / "absent.pem"), create=True)
