"""Every command and option that the README and the pages show exists.

What runs of the README: tests/docs/test_readme_commands.py.
"""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from rankport.sdk.cli.app import command_tree

ROOT = Path(__file__).parents[2]
FENCED = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def commands() -> list[list[str]]:
    """Commands in blocks and in lines, of all pages, as words."""
    found = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text(encoding="utf-8")
        shown = [block for language, block in FENCED.findall(text) if language in ("", "bash", "sh")]
        lines = [line.strip() for block in shown for line in block.replace("\\\n", " ").splitlines()]
        inline = re.findall(r"`(rankport [a-z]+ [^`]*)`", FENCED.sub("", text))
        starts = (line for line in (*lines, *inline) if line.startswith("rankport "))
        found += [shlex.split(line, comments=True) for line in starts]
    return found


@pytest.mark.parametrize("line", commands(), ids=lambda line: line[1])
def test_every_command_and_option_shown_exists(line: list[str]) -> None:
    command, words = get_command(command_tree()), iter(line[1:])
    while hasattr(command, "get_command"):
        command = command.get_command(None, next(words))
    known = {option for parameter in command.params for option in parameter.opts}
    assert [word for word in words if word.startswith("--") and word not in known] == []
