"""Checks before a start: whatever a start refuses they find, in the same words as far as they have the same to say."""

import os
import socket
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.jobs.book import JobBook
from rankport.runtime.server.observing.config import ObservingConfig
from rankport.runtime.server.processes.running import running
from rankport.runtime.server.processes.supervisor import Work
from rankport.runtime.server.security.config import SecurityConfig
from rankport.runtime.server.settings.addresses import check_addresses
from rankport.runtime.server.settings.checks import checks

Settings = dict[str, Any]
Make = Callable[[Path], Settings]


def errors_of(config: ServerConfig) -> list[str]:
    return [check.error for check in checks([], None, config) if check.error]


def written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def folder(path: Path) -> Path:
    path.mkdir()
    return path


REFUSED: dict[str, tuple[Make, str]] = {
    "socket without a folder": (lambda at: {"host": f"unix:{at}/none/a.sock"}, "No such file or directory"),
    "socket too long": (lambda at: {"host": f"unix:{at}/{'a' * 120}"}, "AF_UNIX path too long"),
    "socket that is a file": (
        lambda at: {"host": f"unix:{written(at / 'a', b'')}"},
        "a file that is no socket",
    ),
    "host without a name": (lambda at: {"host": "none.invalid", "security": PUBLIC}, "not known"),
    "host of another machine": (lambda at: {"host": "203.0.113.7", "security": PUBLIC}, "Cannot assign"),
    "host of another machine for HTTP": (
        lambda at: {"http_host": "203.0.113.7", "http_port": 0, "security": PUBLIC},
        "Cannot assign",
    ),
    "jobs that are no database": (
        lambda at: {"jobs_file": written(at / "jobs", b"anything" * 200)},
        "file is not a database",
    ),
    "jobs that are a folder": (lambda at: {"jobs_file": str(at)}, "Is a directory"),
    "jobs of something else": (lambda at: {"jobs_file": other_database(at / "a.db")}, "something else"),
    "state whose lock is a folder": (
        lambda at: {"state_file": str(folder(at / "s.lock").with_suffix(""))},
        "s.lock cannot be opened: Is a directory",
    ),
}
PUBLIC = SecurityConfig(insecure_public=True)


def other_database(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE other (value TEXT)")
    return str(path)


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_a_start_refuses_is_found_before_it(
    make: Make, reason: str, mix_bundle: Bundle, tmp_path: Path
) -> None:
    config = ServerConfig(**{"port": 0, **make(tmp_path)})
    (told,) = errors_of(config)
    assert reason in told
    work = Work([str(mix_bundle.path)], config, EngineConfig(threads=1))
    with pytest.raises(Exception, match=reason), running(work):
        pass


def test_a_store_is_told_without_its_password() -> None:
    found = checks([], "redis://user:secret@127.0.0.1:1/0?retry_s=0.1", ServerConfig(port=0))
    (store,) = (check for check in found if check.what.startswith("store"))
    assert store.what == "store redis://user:***@127.0.0.1:1/0?retry_s=0.1"
    assert "no answer of Redis" in store.error
    assert "secret" not in store.error


def test_each_front_has_a_socket_that_can_be(tmp_path: Path) -> None:
    longest = f"unix:{tmp_path}/".ljust(len("unix:") + 107, "a")
    assert errors_of(ServerConfig(host=longest)) == []
    (told,) = errors_of(ServerConfig(host=longest, fronts=1))
    assert "AF_UNIX path too long" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"host": "localhost", "http_host": "127.0.0.1"}, "port and http_port are both 8600"),
        ({"host": "[::1]", "http_host": "::1"}, "port and http_port are both 8600"),
        ({"host": "unix:"}, "host is 'unix:': give the path of a socket, unix:/PATH"),
        ({"http_host": "unix:/tmp/a"}, "http_host is 'unix:/tmp/a': a unix socket is for host alone"),
    ],
)
def test_addresses_that_are_one_or_none_are_refused_by_name(settings: Settings, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        check_addresses(ServerConfig(port=8600, http_port=8600, **settings))
    two = {"host": "127.0.0.1", "http_host": "127.0.0.2"}
    check_addresses(ServerConfig(port=8600, http_port=8600, **two))


def test_what_another_server_has_is_no_fault_of_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with socket.create_server(("127.0.0.1", 0)) as taken, closing(JobBook(str(path))):
        port = taken.getsockname()[1]
        assert errors_of(ServerConfig(port=port, jobs_file=str(path))) == []
    assert errors_of(ServerConfig(port=port, jobs_file=str(tmp_path / "new.db"))) == []
    assert os.listdir(tmp_path) == ["jobs.db"]


def test_an_exporter_of_traces_that_there_is_not_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "jaeger")
    assert errors_of(ServerConfig()) == ["OTEL_TRACES_EXPORTER is 'jaeger': give otlp, console or none"]


def test_a_library_that_is_not_installed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "rankport.runtime.server.observing.metrics", raising=False)
    (told,) = errors_of(ServerConfig(observing=ObservingConfig(metrics_port=0)))
    assert 'pip install "rankport[server]"' in told
