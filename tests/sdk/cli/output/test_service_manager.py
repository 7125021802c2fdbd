"""systemd is told that a server is ready, goes on and stops, by the server's command itself."""

import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rankport.runtime.bundle.bundle import Bundle
from rankport.sdk.cli.output.service_manager import ServiceManager
from support.effort import every_run
from support.servers.serving import serve
from support.servers.supervised import halt


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(30.0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield told


@pytest.mark.parametrize("fronts", every_run([0, 1], {1}))
def test_a_server_tells_what_it_does_and_nothing_while_it_hangs(
    encoder_bundle: Bundle, manager: socket.socket, fronts: int
) -> None:
    with serve(encoder_bundle.path, "--fronts", fronts) as command:
        assert manager.recv(100) == b"READY=1"
        assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        halt(command.process.pid)
        while select.select([manager], [], [], 1.5)[0]:
            manager.recv(100)  # what was on its way
        os.kill(command.process.pid, signal.SIGCONT)
        assert manager.recv(100) == b"WATCHDOG=1"
        command.process.send_signal(signal.SIGTERM)
        while (told := manager.recv(100)) == b"WATCHDOG=1":
            pass
        assert told == b"STOPPING=1"
        assert command.process.wait(30) == 0


def test_an_abstract_socket_is_told_and_one_that_is_gone_or_full_changes_nothing(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        name = f"rankport-test-{os.getpid()}"
        told.bind(f"\0{name}")
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert told.recv(100) == b"READY=1"
        for _ in range(1000):
            ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).goes_on()
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
    ServiceManager({}).ready()
