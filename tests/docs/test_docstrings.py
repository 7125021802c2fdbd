"""A docstring opens with a verb or a noun, so that it is read without the signature."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_OPENING = {"Of", "Those", "What", "Where", "Whether", "How", "As", "Which", "Why"}


def openings(file: Path) -> Iterator[tuple[int, str]]:
    """The line and the first word of every docstring."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            words = (ast.get_docstring(node) or "").split()
            if words:
                yield getattr(node, "lineno", 1), words[0]


@pytest.mark.parametrize("root", ["protos", "runtime", "exporters", "sdk"])
def test_docstrings_open_with_a_verb_or_a_noun(root: str) -> None:
    files = [file for file in (ROOT / root).rglob("*.py") if "_pb2" not in file.name]
    assert [
        f"{file.relative_to(ROOT)}:{line}: {word}"
        for file in files
        for line, word in openings(file)
        if word in NO_OPENING
    ] == []
