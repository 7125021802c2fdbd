"""A server on a unix socket: what answers there, and what keeps it from being taken."""

import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rankport.protos.errors import Unavailable
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.server import Server
from rankport.sdk import Client
from support.servers.serving import serving


def test_a_client_on_the_machine_is_answered_and_the_socket_left_is_taken_again(tmp_path: Path) -> None:
    host = f"unix:{tmp_path / 'rank.sock'}"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(host.removeprefix("unix:"))  # nobody listens
    for _ in range(2):
        with serving(ServerConfig(host=host)) as served, Client(served.address, timeout_s=10) as client:
            assert (served.address, served.server.port) == (host, 0)
            assert len(client.score("q", ["a", "b"], timeout_s=10).scores) == 2


def test_a_socket_that_answers_or_cannot_be_is_an_error_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    taken = f"unix:{tmp_path / 'rank.sock'}"
    with serving(ServerConfig(host=taken)) as served:
        models: Any = {"ranker": served.ranker}
        for host, says in [
            (taken, "Address already in use"),
            (f"unix:{tmp_path / 'file'}", "a file that is no socket is there"),
            (f"unix:{tmp_path / 'none' / 'rank.sock'}", "No such file or directory"),
            (f"unix:{tmp_path / ('x' * 120)}", "path too long"),
        ]:
            server = Server(models, ServerConfig(host=host))
            with pytest.raises(Unavailable, match=f"cannot listen on .*: .*{says}"):
                server.start()
            server.stop()


def test_a_socket_of_a_server_that_takes_no_connection_any_more_is_taken(tmp_path: Path) -> None:
    path = str(tmp_path / "rank.sock")
    with socket.socket(socket.AF_UNIX) as hung, ExitStack() as stack, serving() as served:
        hung.bind(path)
        hung.listen(0)
        while True:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            if waiting.connect_ex(path):  # as many as wait for it
                break
        models: Any = {"ranker": served.ranker}
        server = Server(models, ServerConfig(host=f"unix:{path}"))
        with pytest.raises(Unavailable, match="Address already in use"):
            server.start()
        server.stop()
