"""A port that processes share: taken where no other server listens, also behind one that has just ended."""

import socket
from contextlib import closing

import pytest

from rankport.protos.errors import Unavailable
from rankport.runtime.server.processes.ports import ReservedPort


def test_connections_of_a_server_that_ended_keep_nobody_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
    accepted.close()  # first: what lingers is then on the server's side
    assert client.recv(1) == b""
    client.close()
    with socket.socket() as probe, pytest.raises(OSError, match="in use"):
        probe.bind(("127.0.0.1", port))
    with closing(ReservedPort("127.0.0.1", port, "port")) as reserved:
        assert reserved.number == port


def test_a_server_that_listens_keeps_its_port_whether_it_shares_it_or_not() -> None:
    for shares in (False, True):
        with socket.create_server(("127.0.0.1", 0), reuse_port=shares) as server:
            port = server.getsockname()[1]
            with pytest.raises(
                Unavailable, match=f"port {port}: Address already in use; choose another port"
            ):
                ReservedPort("127.0.0.1", port, "port")
