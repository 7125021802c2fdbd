"""`rankport token`, and what commands say of tokens and TLS to a server."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from rankport.protos.errors import InvalidRequest, Unavailable
from rankport.runtime.server.security.guard import Guard
from rankport.sdk.cli.flags.connection import connected, tls_of
from rankport.sdk.transport.access import Tls
from support.cli import rankport
from support.effort import full_effort
from support.servers.serving import LOCAL, serving


def test_a_new_token_is_known_by_its_line_alone(tmp_path: Path) -> None:
    file = tmp_path / "clients.txt"
    tokens = [
        rankport("token", "new", "search", "--file", file, "--concurrent", "2").stdout.strip() for _ in "12"
    ]
    assert len(file.read_text().splitlines()) == 2
    assert file.stat().st_mode & 0o777 == 0o600
    guard = Guard(str(file))
    for token in tokens:
        assert guard.caller(f"Bearer {token}", "call").name == "search"
        assert token.partition(".")[2] not in file.read_text()


@full_effort
def test_lines_that_are_added_at_one_time_are_all_there(tmp_path: Path) -> None:
    file = tmp_path / "clients.txt"
    command = [sys.executable, "-m", "rankport.sdk.cli", "token", "new", "search", "--file", str(file)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(8)]
    tokens = [process.communicate()[0].decode().strip() for process in running]
    guard = Guard(str(file))
    assert {guard.caller(f"Bearer {token}", "call").name for token in tokens} == {"search"}
    assert len(file.read_text().splitlines()) == 8


def test_a_line_that_was_added_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reads the file and writes it anew: the line of one of two was lost, and its token told."""
    file = tmp_path / "clients.txt"
    other = rankport("token", "new", "first").stdout.rpartition("line:")[2].strip()
    monkeypatch.setattr(fcntl, "flock", lambda *_: file.write_text(f"{other}\n"))
    assert rankport("token", "new", "second", "--file", file).returncode == 0
    assert [line.split()[0] for line in file.read_text().splitlines()] == ["first", "second"]


def test_a_token_may_be_for_the_background_alone(tmp_path: Path) -> None:
    file = tmp_path / "clients.txt"
    token = rankport("token", "new", "nightly", "--file", file, "--background").stdout.strip()
    assert Guard(str(file)).caller(f"Bearer {token}", "call").priority == "background"


def test_a_line_that_does_not_go_with_the_others_is_not_added(tmp_path: Path) -> None:
    file = tmp_path / "clients.txt"
    rankport("token", "new", "search", "--file", file)
    before = file.read_bytes()
    for more, told in (
        (["search", "--rights", "admin"], "search has another line with other rights"),
        (["search", "--items-per-s", "0"], "quota 'items=0/s' is none"),
        (["a", "--rights", "root"], "--rights has 'root': there are call, admin, metrics"),
        (["a.b"], "name is 'a.b'"),
    ):
        result = rankport("token", "new", *more, "--file", file)
        assert (result.returncode, result.stdout) == (2, "")
        assert told in result.stderr
    assert file.read_bytes() == before


def test_a_file_that_cannot_be_written_gives_no_token(tmp_path: Path) -> None:
    result = rankport("token", "new", "search", "--file", tmp_path / "none" / "clients.txt")
    assert (result.returncode, result.stdout) == (1, "")
    assert "clients.txt: cannot be written: No such file or directory" in result.stderr


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    file = tmp_path / "clients.txt"
    file.write_bytes(b"\xff\xfe")
    result = rankport("token", "new", "search", "--file", file)
    assert (result.returncode, result.stdout) == (2, "")
    assert "clients.txt is not UTF-8" in result.stderr
    assert file.read_bytes() == b"\xff\xfe"


def test_without_a_file_the_line_is_printed(tmp_path: Path) -> None:
    token, line = rankport("token", "new", "deploy", "--rights", "admin,call").stdout.splitlines()
    file = tmp_path / "clients.txt"
    file.write_text(line.removeprefix("line: "))
    secret = token.removeprefix("token: ")
    assert Guard(str(file)).caller(f"Bearer {secret}", "admin").name == "deploy"


def test_commands_take_a_token_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from rankport.runtime.server.security.config import SecurityConfig

    file = tmp_path / "clients.txt"
    token = rankport("token", "new", "deploy", "--rights", "admin", "--file", file).stdout.strip()
    with serving(replace(LOCAL, security=SecurityConfig(token_file=str(file)))) as served:
        refused = rankport("models", "list", "--server", served.address)
        assert refused.returncode == 1
        assert "Unauthenticated: the call has no token" in refused.stderr
        monkeypatch.setenv("RANKPORT_TOKEN", token)
        assert rankport("models", "list", "--server", served.address).returncode == 0


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "if it is behind TLS, give its authority in RANKPORT_TLS_CA, or RANKPORT_TLS=1$"),
        (
            {"RANKPORT_TLS": "1"},
            "if it is there, it is not behind TLS, or its certificate has expired, or is of another name or not of",
        ),
    ],
)
def test_a_server_that_cannot_be_reached_may_be_behind_tls(environment: dict[str, str], told: str) -> None:
    with pytest.raises(Unavailable, match=told), connected("host:1", environment=environment):
        raise Unavailable("host:1 cannot be reached: Connection refused")
    with pytest.raises(Unavailable) as caught, connected("host:1", environment=environment):
        raise Unavailable("the server stops")
    assert str(caught.value) == "the server stops"
    known = "host:1 cannot be reached: Socket closed; if the server speaks TLS there, give tls=True"
    with pytest.raises(Unavailable) as caught, connected("host:1", environment=environment):
        raise Unavailable(known)
    assert str(caught.value) == known


def test_tls_of_commands_is_what_the_environment_says() -> None:
    assert tls_of({}) is False
    assert tls_of({"RANKPORT_TLS": "1"}) is True
    assert tls_of({"RANKPORT_TLS_CA": "ca.pem"}) == Tls(ca="ca.pem")
    for environment, told in (
        ({"RANKPORT_TLS": "yes"}, "RANKPORT_TLS is 'yes'"),
        ({"RANKPORT_TLS": "0", "RANKPORT_TLS_CA": "ca.pem"}, "RANKPORT_TLS is '0'"),
        ({"RANKPORT_TLS_CERT": "c.pem"}, "cert is 'c.pem' and key None"),
        ({"RANKPORT_TLS_CA": "none.pem"}, "none.pem cannot be read"),
    ):
        with pytest.raises(InvalidRequest, match=told), connected("localhost:1", environment=environment):
            pass
