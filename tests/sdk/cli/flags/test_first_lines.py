"""The list of commands has each one's first line, and imports none of them."""

import inspect
from typing import Any

import pytest
import typer

from rankport.sdk.cli.app import command_tree
from rankport.sdk.cli.flags.first_lines import FIRST_LINES
from support.cli import rankport


def test_it_is_the_first_paragraph_of_each_help() -> None:
    tree: Any = typer.main.get_command(command_tree())
    commands = {name: tree.get_command(None, name) for name in tree.list_commands(None)}
    helps = {name: inspect.cleandoc(command.help).split("\n\n")[0] for name, command in commands.items()}
    assert {name: text.replace("\n", " ") for name, text in helps.items()} == FIRST_LINES


def test_listing_commands_imports_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(module: str) -> None:
        raise AssertionError(module)

    monkeypatch.setattr("rankport.sdk.cli.app.import_module", refused)
    monkeypatch.setenv("COLUMNS", "300")
    told = rankport("--help")
    assert told.returncode == 0
    assert [line for line in FIRST_LINES.values() if line not in told.stdout] == []
    monkeypatch.setenv("_RANKPORT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "rankport s")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert rankport().stdout.split() == ["store", "serve", "score"]
    monkeypatch.delenv("_RANKPORT_COMPLETE")
    with pytest.raises(AssertionError, match=r"commands\.requests\.score"):
        rankport("score", "--help")
