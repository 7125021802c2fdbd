"""`progress` of the examples: a log has a line for each tenth, and no bar."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from examples.progress import counted, losses


def test_a_log_has_a_line_for_each_tenth_of_the_steps() -> None:
    out = io.StringIO()
    assert list(counted(40, "training", Console(file=out))) == list(range(40))
    assert out.getvalue().splitlines() == [f"training: {step} of 40" for step in range(0, 40, 4)]


def test_a_log_has_a_line_for_each_tenth_with_its_loss() -> None:
    out = io.StringIO()
    with losses("training", Console(file=out)) as on_loss:
        for step in range(1, 31):
            on_loss(step, 30, 1 / step)
    lines = out.getvalue().splitlines()
    assert len(lines) == 10
    assert (lines[0], lines[-1]) == ("training: 3 of 30, loss 0.333", "training: 30 of 30, loss 0.033")


def test_few_steps_are_told_one_by_one() -> None:
    out = io.StringIO()
    assert list(counted(3, "training", Console(file=out))) == [0, 1, 2]
    assert len(out.getvalue().splitlines()) == 3


ROOT = Path(__file__).parents[2]
MODULES = re.findall(r"-m examples\.(\w+)\.run", (ROOT / "Makefile").read_text())


@pytest.mark.parametrize("name", sorted({*MODULES, "gti"}))
def test_no_example_keeps_its_progress_to_terminals_or_writes_control_characters_to_logs(name: str) -> None:
    sources = {file: file.read_text() for file in (ROOT / "examples" / name).glob("*.py")}
    assert not [file.name for file, text in sources.items() if re.search(r"\.status\(|rich\.progress", text)]
    if any("transformers" in text for text in sources.values()):
        assert "disable_progress_bar()" in sources[ROOT / "examples" / name / "run.py"]
