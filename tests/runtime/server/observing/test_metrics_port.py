"""The port of /metrics: who may see it, and how many at a time."""

import http.client
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from rankport.protos.errors import InvalidRequest, PermissionDenied
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.observing.config import ObservingConfig
from rankport.runtime.server.security.config import SecurityConfig
from rankport.runtime.server.security.tokens import Limits, Right, line_of, new_token
from rankport.runtime.server.server import Server
from rankport.sdk import Client
from support.certificates import CertificateFiles
from support.servers.deterministic_models import DeterministicRanker
from support.servers.serving import LOCAL, serving

METRICS = replace(
    LOCAL, host="localhost", observing=ObservingConfig(metrics_port=0, metrics_host="localhost")
)


@dataclass(frozen=True, slots=True)
class Guarded:
    """A server with TLS, and a token for each right."""

    server: Server
    files: CertificateFiles
    tokens: dict[str, str]

    def page(self, token: str = "", *, scheme: str = "https") -> tuple[int, str]:
        """Asks for the page as a scraper does."""
        context = ssl.create_default_context(cafile=str(self.files.ca)) if scheme == "https" else None
        headers = {"authorization": f"Bearer {token}"} if token else {}
        url = f"{scheme}://localhost:{self.server.metrics_port}/metrics"
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, headers=headers), timeout=10, context=context
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    rights: tuple[Right, ...] = ("call", "admin", "metrics")
    tokens: dict[str, str] = {right: new_token(right) for right in rights}
    clients = folder / "clients.txt"
    clients.write_text("\n".join(line_of(tokens[right], [right], Limits()) for right in rights))
    files = CertificateFiles.written(folder / "certificates")
    security = SecurityConfig(tls_cert=str(files.cert), tls_key=str(files.key), token_file=str(clients))
    with serving(replace(METRICS, security=security)) as served:
        yield Guarded(served.server, files, tokens)


def test_the_page_is_for_tokens_with_the_right_over_tls(guarded: Guarded) -> None:
    for right in ("metrics", "call"):
        status, page = guarded.page(guarded.tokens[right])
        assert status == 200
        assert "rankport_build_info" in page
    assert guarded.page() == (401, "the call has no token: send `authorization: Bearer TOKEN`\n")
    assert guarded.page("metrics.wrong")[0] == 401
    status, told = guarded.page(guarded.tokens["admin"])
    assert (status, "'metrics'" in told) == (403, True)


def test_nothing_is_told_in_clear(guarded: Guarded) -> None:
    with pytest.raises((http.client.HTTPException, OSError)):
        guarded.page(guarded.tokens["metrics"], scheme="http")
    assert guarded.page(guarded.tokens["metrics"])[0] == 200


def test_the_right_is_for_nothing_else(guarded: Guarded) -> None:
    token = guarded.tokens["metrics"]
    with (
        Client(guarded.server.address, token=token, tls=guarded.files.tls, timeout_s=10) as client,
        pytest.raises(PermissionDenied, match="client metrics does not have the right 'call'"),
    ):
        client.models()


def test_an_address_that_others_reach_is_refused_without_protection() -> None:
    ranker = DeterministicRanker()
    config = ServerConfig(port=0, observing=ObservingConfig(metrics_port=0, metrics_host="0.0.0.0"))
    with pytest.raises(InvalidRequest, match=r"metrics_host 0\.0\.0\.0 is reached by others, without TLS"):
        Server({"ranker": ranker}, config)  # type: ignore[dict-item]
    ranker.close()


def test_connections_that_say_nothing_give_way_the_oldest_first(guarded: Guarded) -> None:
    with serving(METRICS) as served:
        address = ("localhost", served.server.metrics_port or 0)
        silent = [socket.create_connection(address, timeout=10) for _ in range(32)]
        with socket.create_connection(address, timeout=10) as more:
            more.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert more.recv(15) == b"HTTP/1.0 200 OK"
            assert b"Python" not in more.recv(200)
        assert silent[0].recv(1) == b""  # closed, though it asked for nothing
        silent[1].sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert silent[1].recv(15) == b"HTTP/1.0 200 OK"
        for connection in silent:
            connection.close()
    port = guarded.server.metrics_port or 0
    shaking_hands = [socket.create_connection(("localhost", port), timeout=10) for _ in range(32)]
    assert guarded.page(guarded.tokens["metrics"])[0] == 200
    for connection in shaking_hands:
        connection.close()
