"""Tokens and their lines."""

import re

import pytest

from rankport.protos.errors import InvalidRequest
from rankport.runtime.server.security.tokens import Limits, line_of, name_in, new_token, read_clients

HASH = f"sha256:{'0' * 32}:{'0' * 64}"


def test_a_line_knows_its_token_and_no_other_and_does_not_have_it() -> None:
    token = new_token("search")
    line = line_of(token, ["call"], Limits(items_per_s=2000.5, concurrent=8, tokens_per_s=1e6))
    quota = r"items=2000\.5/s,tokens=1000000/s,concurrent=8"
    assert re.fullmatch(rf"search sha256:[0-9a-f]{{32}}:[0-9a-f]{{64}} call {quota}", line)
    assert token.removeprefix("search.") not in line
    client = read_clients(line, "f")["search"]
    assert (client.rights, client.limits) == ({"call"}, Limits(2000.5, 8, 1e6))
    assert client.has(token)
    assert not client.has(token + "x")
    assert not client.has(new_token("search"))


def test_a_line_keeps_a_client_to_the_background() -> None:
    limits = Limits(concurrent=2, priority="background")
    line = line_of(new_token("nightly"), ["call"], limits)
    assert line.endswith(" call concurrent=2,priority=background")
    assert read_clients(line, "f")["nightly"].limits == limits


@pytest.mark.parametrize("rate", [0.001, 1.0, 1_234_567.0, 1e9])
def test_a_rate_is_read_as_it_was_written(rate: float) -> None:
    line = line_of(new_token("a"), ["call"], Limits(items_per_s=rate))
    assert read_clients(line, "f")["a"].limits == Limits(rate)


def test_equal_tokens_have_different_hashes_and_tokens_256_bits() -> None:
    token = new_token("a")
    assert line_of(token, ["call"], Limits()) != line_of(token, ["call"], Limits())
    assert len(token.partition(".")[2]) == 43  # 32 bytes in base64
    assert name_in(token) == "a"
    assert name_in("no-dot") == ""


def test_lines_of_one_name_are_tokens_of_one_client() -> None:
    old, new = new_token("search"), new_token("search")
    text = "\n".join(
        ("# two while they rotate", line_of(old, ["call"], Limits()), "", line_of(new, ["call"], Limits()))
    )
    client = read_clients(text, "f")["search"]
    assert client.has(old)
    assert client.has(new)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"a {HASH} call", "3 words; a line is NAME HASH RIGHTS QUOTA"),
        (f"a/b {HASH} call -", "name 'a/b' is none"),
        ("a secret call -", "the second word of a is no hash"),
        (f"a {HASH} call,root -", "right 'root' is unknown: there are call, admin, metrics"),
        (f"a {HASH} call items=0/s", "quota 'items=0/s' is none"),
        (f"a {HASH} call items=5", "quota 'items=5' is none"),
        (f"a {HASH} call tokens=1/s,tokens=1/s", "quota 'tokens=1/s' is none"),
        (f"a {HASH} call items=0.00/s", "quota 'items=0.00/s' is none"),
        (f"a {HASH} call priority=interactive", "quota 'priority=interactive' is none"),
        (f"a {HASH} call concurrent=1,concurrent=2", "quota 'concurrent=2' is none"),
        (f"a {HASH} admin -\na {HASH} call -", "line 3: a has another line with other rights"),
    ],
)
def test_wrong_lines_are_told_by_number_without_what_may_be_a_secret(line: str, told: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(told)) as raised:
        read_clients("# a comment\n" + line, "clients.txt")
    assert str(raised.value).startswith("clients.txt, line ")
    assert "secret" not in str(raised.value)


def test_a_name_or_rights_that_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"name is 'a\.b'"):
        new_token("a.b")
    with pytest.raises(InvalidRequest, match="'a' has no right: give call or admin or metrics"):
        line_of(new_token("a"), [], Limits())
