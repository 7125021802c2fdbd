"""Every command and option that the README shows exists. What runs of it: tests/docs/test_readme_commands.py."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from rankport.sdk.cli.app import command_tree

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    inline = [
        shlex.split(text)
        for text in re.findall(r"`(rankport [a-z]+ [^`]*)`", README.read_text(encoding="utf-8"))
    ]
    return [line for line in (*words, *inline) if line and line[0] == "rankport"]


@pytest.mark.parametrize("line", commands(), ids=lambda line: line[1])
def test_every_command_and_option_shown_exists(line: list[str]) -> None:
    command, words = get_command(command_tree()), iter(line[1:])
    while hasattr(command, "get_command"):
        command = command.get_command(None, next(words))
    known = {option for parameter in command.params for option in parameter.opts}
    assert [word for word in words if word.startswith("--") and word not in known] == []
