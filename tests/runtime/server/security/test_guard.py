"""Who is let in, and what becomes of a file of clients that changes."""

from pathlib import Path

import pytest

from rankport.protos.errors import InvalidRequest, PermissionDenied, Unauthenticated
from rankport.runtime.server.security.config import SecurityConfig
from rankport.runtime.server.security.guard import Guard
from rankport.runtime.server.security.tokens import Limits, Right, line_of, new_token
from support.file_limits import no_more_files


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def write(file: Path, *tokens: str, rights: tuple[Right, ...] = ("call",)) -> Path:
    file.write_text("".join(line_of(token, rights, Limits(concurrent=1)) + "\n" for token in tokens))
    return file


def test_a_known_token_is_let_in_where_it_has_the_right(tmp_path: Path) -> None:
    token = new_token("search")
    file = write(tmp_path / "clients", token)
    file.write_bytes(
        b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n")
    )  # as editors of Windows leave it
    guard = Guard(str(file))
    caller = guard.caller(f"Bearer {token}", "call")
    assert caller.name == "search"
    assert caller.quota is not None
    with pytest.raises(PermissionDenied, match="client search does not have the right 'admin'"):
        guard.caller(f"bearer {token}", "admin")


@pytest.mark.parametrize(
    ("authorization", "told"),
    [
        (None, "send `authorization: Bearer TOKEN`"),
        ("Basic abc", "has the scheme 'Basic'"),
        ("Bearer search.wrong", "not known here"),
        ("Bearer nobody.wrong", "not known here"),
        ("Bearer", "not known here"),
    ],
)
def test_others_are_told_what_is_wrong_and_nothing_of_what_is_right(
    tmp_path: Path, authorization: str | None, told: str
) -> None:
    guard = Guard(str(write(tmp_path / "clients", new_token("search"))))
    with pytest.raises(Unauthenticated, match=told) as raised:
        guard.caller(authorization, "call")
    assert "wrong" not in str(raised.value).partition(":")[0]


def test_a_changed_file_is_read_again_and_a_quota_goes_on(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "clients"
    old, new = new_token("search"), new_token("search")
    guard = Guard(str(write(file, old)), clock=clock)
    quota = guard.caller(f"Bearer {old}", "call").quota
    write(file, old, new)
    with pytest.raises(Unauthenticated):  # it is not looked at for every call
        guard.caller(f"Bearer {new}", "call")
    clock.now_s += 1
    assert guard.caller(f"Bearer {new}", "call").quota is quota
    write(file, new)
    clock.now_s += 1
    with pytest.raises(Unauthenticated):
        guard.caller(f"Bearer {old}", "call")


def test_a_file_that_cannot_be_used_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock, token = Clock(), new_token("search")
    file = write(tmp_path / "clients", token)
    guard = Guard(str(file), clock=clock)
    file.write_text("search half a line")
    clock.now_s += 1
    assert guard.caller(f"Bearer {token}", "call").name == "search"
    assert "the clients stay as they were" in caplog.text
    with pytest.raises(InvalidRequest, match="line 1"):
        Guard(str(file))
    with pytest.raises(InvalidRequest, match="cannot be read: No such file"):
        Guard(str(tmp_path / "none"))


def test_a_file_that_cannot_be_opened_for_a_while_is_read_once_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, withdrawn = Clock(), new_token("search")
    file = write(tmp_path / "clients", withdrawn)
    guard = Guard(str(file), clock=clock)
    write(file, new_token("search"))
    with no_more_files():
        for clock.now_s in (1, 2):
            assert guard.caller(f"Bearer {withdrawn}", "call").name == "search"
    assert caplog.text.count("cannot be read: Too many open files") == 1
    clock.now_s = 3
    with pytest.raises(Unauthenticated):
        guard.caller(f"Bearer {withdrawn}", "call")


def test_without_tokens_admin_calls_are_for_this_machine_or_a_port_of_their_own() -> None:
    public = SecurityConfig(insecure_public=True)
    Guard.of(public, "127.0.0.1").caller(None, "admin")
    Guard.of(public, "0.0.0.0").caller(None, "call")
    with pytest.raises(PermissionDenied, match="start the server with --token-file, or with --admin-port"):
        Guard.of(public, "0.0.0.0").caller(None, "admin")
    Guard.of(SecurityConfig(admin_port=0), "0.0.0.0").caller(None, "admin")
