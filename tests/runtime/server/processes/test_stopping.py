"""The end of a server of several processes, asked for or not: calls under way are answered, and nothing is left."""

import json
import os
import signal
import socket
import urllib.request
from pathlib import Path

import grpc
import pytest

from rankport.protos.errors import BundleError, InvalidRequest, Unavailable
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.processes.supervisor import Supervisor, Work
from rankport.runtime.server.server import Server
from rankport.runtime.server.settings.checks import checks
from support.servers.callers import callers, ended
from support.servers.serving import Command, serve
from support.servers.supervised import children, eventually

ITEMS = ["nurse", "welder", "chief cook"]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def stopped_in_order(command: Command) -> None:
    with callers(command.address, 6) as calling:
        calls = calling.begin(ITEMS * 500)
        command.process.send_signal(signal.SIGTERM)
        outcomes = [ended(call) for call in calls]
    assert {outcome.code for outcome in outcomes} == {grpc.StatusCode.OK}
    assert command.process.wait(20) == 0


def test_a_stop_answers_what_is_under_way_and_leaves_nothing(
    mix_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with serve(f"mix={mix_bundle.path}", "--fronts", 2, "--http-port", 0, "--lame-duck-s", 1) as command:
        pids = children(command.process.pid).values()
        assert len(pids) == 3
        ready = command.lines[-1]
        with urllib.request.urlopen(f"http://{ready['http_address']}/health", timeout=10) as answer:
            assert answer.status == 200
        stopped_in_order(command)
        assert command.process.stdout is not None
        last = json.loads(command.process.stdout.read().splitlines()[-1])
    assert last["event"] == "stopped"
    assert last["calls"]["answered"] >= 6  # of both fronts together
    assert not any(map(alive, pids))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("rankport-")]


def test_processes_end_by_themselves_where_their_supervisor_is_killed(
    mix_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with serve(f"mix={mix_bundle.path}", "--fronts", 1) as command:
        pids = children(command.process.pid).values()
        assert len(pids) == 2
        os.kill(command.process.pid, signal.SIGKILL)
        eventually(lambda: not any(map(alive, pids)))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("rankport-")]


def work(**settings: object) -> Work:
    server = ServerConfig(**{"port": 0, "fronts": 1, **settings})  # type: ignore[arg-type]
    return Work(["missing.bundle"], server, EngineConfig(threads=1))


def test_what_does_not_go_with_processes_is_refused() -> None:
    comma = work(host="unix:/tmp/a,b").server
    with pytest.raises(InvalidRequest, match="give a path without one"):
        Supervisor(Work(["a"], comma, EngineConfig()))
    (told,) = [check.error for check in checks([], None, comma) if check.what == "1 fronts"]
    assert "give a path without one" in told
    tokens = EngineConfig(device="cuda", device_tokens_bytes=2**20)
    assert "" in [
        check.error for check in checks([], None, work().server, engine=tokens) if "fronts" in check.what
    ]
    with pytest.raises(InvalidRequest, match="`Supervisor` starts processes"):
        Server({}, work().server)
    with pytest.raises(InvalidRequest, match="give 1 or more"):
        Supervisor(work(fronts=0))
    with pytest.raises(InvalidRequest, match="jobs run in one process"):
        Supervisor(work(jobs_file="jobs.db"))


def test_a_port_that_another_server_has_and_a_bundle_that_is_none_are_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            Unavailable, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"
        ):
            Supervisor(work(port=port)).start()
    with pytest.raises(BundleError, match=r"no manifest.json there"):
        Supervisor(work()).start()


def test_a_folder_for_sockets_that_cannot_be_is_told_before_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with pytest.raises(InvalidRequest, match=f"TMPDIR is {long}: .* may have 107: name a shorter one"):
        Supervisor(work())
    (told,) = [check.error for check in checks([], None, work().server) if check.what == "1 fronts"]
    assert "name a shorter one" in told
    assert not list(long.iterdir())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(InvalidRequest, match=r"\(No such file or directory\): have TMPDIR name one"):
        Supervisor(work())
