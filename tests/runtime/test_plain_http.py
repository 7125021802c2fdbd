"""A server of pages: the families of addresses that it listens on."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler

import pytest

from rankport.runtime.plain_http import PlainHttpServer
from support.file_limits import no_more_files
from support.servers.http import ask

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")


class Page(BaseHTTPRequestHandler):
    """A page."""

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keeps quiet."""


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        pytest.param("::1", ["[::1]"], marks=needs_ipv6),
        pytest.param("[::1]", ["[::1]"], marks=needs_ipv6),
        pytest.param("", ["127.0.0.1", "[::1]"], marks=needs_ipv6),
    ],
)
def test_addresses_of_both_families_are_listened_on(host: str, reached: list[str]) -> None:
    with PlainHttpServer(host, 0, Page) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        try:
            assert [ask(f"{each}:{server.server_port}", "/").status for each in reached] == [204] * len(
                reached
            )
        finally:
            server.shutdown()
            serving.join()


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        PlainHttpServer("127.0.0.1", taken.getsockname()[1], Page)


def test_a_connection_that_finds_no_file_left_is_not_asked_for_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    with (
        PlainHttpServer("127.0.0.1", 0, Page) as server,
        socket.create_connection(("127.0.0.1", server.server_port)),
    ):
        with no_more_files(), pytest.raises(OSError, match="Too many open files"):
            server.get_request()
        assert len(pauses) == 1
        server.get_request()[0].close()
    assert len(pauses) == 1
