"""The help of every command has the names of its flags to their end, and ends with a line that calls it."""

import re
import shlex
from typing import Any

import pytest

from rankport.sdk.cli.flags.examples import EXAMPLES
from support.cli import rankport
from support.command_tree import all_commands

COMMANDS = {" ".join(words): command for words, command in all_commands()}


def test_every_command_has_one_and_no_other_has() -> None:
    assert sorted(EXAMPLES) == sorted(COMMANDS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_command_takes_its_example(name: str) -> None:
    command: Any = COMMANDS[name]
    words = shlex.split(EXAMPLES[name].partition(" | ")[0])
    context = command.make_context(f"rankport {name}", words, resilient_parsing=True)
    assert not context.args
    given = {parameter.name for parameter in command.params if context.params.get(parameter.name) is not None}
    assert {parameter.name for parameter in command.params if parameter.required} <= given


@pytest.mark.parametrize("name", ["serve", "export"])
def test_a_narrow_terminal_shows_long_words_to_their_end(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = rankport(name, "--help").stdout
    assert len(re.findall(r"^│ +\*? *--\S+", shown, re.MULTILINE)) > 10
    assert not re.findall(r"[\w-]+…", shown)


def test_the_help_says_where_a_token_for_a_server_comes_from() -> None:
    asking = {name for name, command in COMMANDS.items() if "RANKPORT_TOKEN" in (command.epilog or "")}
    assert {"score", "models load", "jobs create", "loadtest", "nearline"} <= asking
    assert not asking & {"serve", "export", "encode", "store copy"}


@pytest.mark.parametrize("name", ["score", "models alias"])
def test_the_help_shows_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert f"Example: rankport {name} {EXAMPLES[name]}" in rankport(*name.split(), "--help").stdout
