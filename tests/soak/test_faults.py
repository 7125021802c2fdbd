"""Faults around a server in a process: others are answered meanwhile, or once it is over, without a restart."""

import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rankport.protos.errors import DeadlineExceeded, Overloaded, Unavailable
from rankport.runtime.bundle.bundle import Bundle
from rankport.sdk.client import Client
from support.cli import rankport
from support.effort import full_effort
from support.servers.http import ask
from support.servers.serving import Command, serve
from support.servers.supervised import children, eventually, halt

TITLE = ["head nurse"]


@pytest.fixture(scope="module")
def running(encoder_bundle: Bundle) -> Iterator[Command]:
    with serve(encoder_bundle.path, "--http-port", "0") as command:
        yield command


def answers(command: Command) -> bool:
    """Says whether a new client of each port is answered."""
    with Client(command.address, timeout_s=30.0) as client:
        grpc = len(client.encode(TITLE)) == 1
    return grpc and ask(http_address(command), "/health/ready").status == 200


def http_address(command: Command) -> str:
    return str(command.lines[-1]["http_address"])


def connect(address: str) -> socket.socket:
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=10.0)


def used_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_hangup_without_a_terminal_changes_nothing(running: Command) -> None:
    running.process.send_signal(signal.SIGHUP)
    assert answers(running)
    assert running.process.poll() is None


def test_a_process_that_was_halted_goes_on(running: Command) -> None:
    with Client(running.address) as client:
        assert len(client.encode(TITLE)) == 1
        halt(running.process.pid)
        with pytest.raises((DeadlineExceeded, Unavailable)):
            client.encode(TITLE, timeout_s=0.5)
        running.process.send_signal(signal.SIGCONT)
        assert len(client.encode(TITLE, timeout_s=30.0)) == 1
    assert answers(running)


@pytest.mark.parametrize("port", ["grpc", "http"])
def test_without_files_for_connections_those_that_are_open_go_on_and_later_ones_are_taken(
    running: Command, port: str
) -> None:
    pid = running.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    address = running.address if port == "grpc" else http_address(running)
    with Client(running.address) as client, ExitStack() as stack:
        assert len(client.encode(TITLE)) == 1
        few = len(os.listdir(f"/proc/{pid}/fd")) + 8
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, limits[1]))
        stack.callback(resource.prlimit, pid, resource.RLIMIT_NOFILE, limits)
        for _ in range(40):
            stack.enter_context(connect(address))
        eventually(lambda: len(os.listdir(f"/proc/{pid}/fd")) >= few)
        before_s = used_s(pid)
        for _ in range(20):
            assert len(client.encode(TITLE, timeout_s=30.0)) == 1
        assert used_s(pid) - before_s < 5.0
    assert answers(running)


@full_effort
def test_connections_of_grpc_that_say_nothing_end_and_let_others_in(encoder_bundle: Bundle) -> None:
    with serve(encoder_bundle.path, "--max-connections", "5") as command, ExitStack() as stack:
        silent = [stack.enter_context(connect(command.address)) for _ in range(5)]
        with Client(command.address, timeout_s=2.0) as client, pytest.raises(Unavailable):
            client.encode(TITLE)
        for connection in silent:
            connection.settimeout(60.0)
            while connection.recv(1024):
                pass
        with Client(command.address, timeout_s=30.0) as client:
            assert len(client.encode(TITLE)) == 1


def test_without_room_on_the_disk_orders_are_refused_and_later_taken(
    encoder_bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "items.csv").write_text("id,text\na,head nurse\n")
    kept = ("--state-file", tmp_path / "state.json", "--jobs-file", tmp_path / "jobs.sqlite")
    with serve(encoder_bundle.path, "--http-port", "0", *kept, "--job-root", tmp_path) as command:
        pid, at = command.process.pid, ("--server", command.address)
        alias = ("models", "alias", "prod", "tiny-encoder@1", *at)
        job = ("jobs", "create", "--items", tmp_path / "items.csv", "--store", tmp_path / "made.lmdb", *at)
        limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, limits[1]))
        for order in (alias, job):
            refused = rankport(*order)
            assert refused.returncode == 1
            assert refused.stderr.startswith("rankport: Unavailable: ")
            assert "cannot be written" in refused.stderr
        assert answers(command)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
        for order in (alias, job):
            taken = rankport(*order)
            assert taken.returncode == 0, taken.stderr
        assert answers(command)


def test_a_request_for_which_no_thread_can_be_started_is_refused_as_overload(encoder_bundle: Bundle) -> None:
    with serve(encoder_bundle.path) as command, Client(command.address, timeout_s=30.0) as client:
        pid = command.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_AS)
        mapped = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(pid, resource.RLIMIT_AS, (mapped + 2**20, limits[1]))  # less than a thread's stack
        with pytest.raises(Overloaded, match="can start no thread for this request"):
            client.encode(TITLE, timeout_s=0.5)
        resource.prlimit(pid, resource.RLIMIT_AS, limits)
        assert len(client.encode(TITLE)) == 1


@pytest.mark.parametrize("short", ["supervisor", "engine"])
def test_a_front_that_dies_while_no_file_is_left_is_back_once_there_are_some(
    encoder_bundle: Bundle, short: str
) -> None:
    with serve(encoder_bundle.path, "--fronts", 1) as command:
        supervisor = command.process.pid
        before = children(supervisor)
        pid = before["engine 0"] if short == "engine" else supervisor
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")) - 1, limits[1]))
        os.kill(before["front 0"], signal.SIGKILL)
        with Client(command.address, timeout_s=3.0) as client, pytest.raises((Unavailable, DeadlineExceeded)):
            client.encode(TITLE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        with Client(command.address, timeout_s=5.0) as client:
            eventually(lambda: _encodes(client))
        now = children(supervisor)
        assert now["engine 0"] == before["engine 0"]
        assert now["front 0"] != before["front 0"]


def _encodes(client: Client) -> bool:
    try:
        return len(client.encode(TITLE)) == 1
    except (Unavailable, DeadlineExceeded):
        return False
