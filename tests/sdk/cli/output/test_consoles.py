"""`consoles`: what commands print has the brackets and colons that it had."""

import io
import re
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

import rankport.sdk.cli as cli
from rankport.sdk.cli.output.bundle.manifest import print_manifest
from rankport.sdk.cli.output.consoles import plain_console
from rankport.sdk.cli.output.progress import steps
from support.bundle_samples import ENCODER_FILES, encoder_draft, manifest_of

TEXT = "/runs/[prod]/:cop:/[/]b [pad]"


def test_texts_titles_and_cells_are_printed_as_they_are() -> None:
    out = io.StringIO()
    console = plain_console(file=out)
    table = Table(TEXT, title=TEXT)
    table.add_row(TEXT)
    console.print(table)
    console.print(f"bundle: {TEXT}", soft_wrap=True)
    with steps(console) as on_step:
        on_step(TEXT)
    assert out.getvalue().count(TEXT) == 5


def test_nothing_that_a_terminal_obeys_is_printed() -> None:
    """A bundle of somebody else's may name its source so that it shows as something else."""
    out = io.StringIO()
    console = plain_console(file=out)
    table = Table()
    table.add_row("a\x1b[2Jb\x9bc")
    console.print(table)
    console.print("a\x1b[2Jb\tc\nd", soft_wrap=True)
    console.print(Text("\x9bd"))
    printed = out.getvalue()
    assert printed.count(r"a\x1b[2Jb") == 2
    assert r"b\x9bc" in printed
    assert r"\x9bd" in printed
    assert "\nd\n" in printed
    assert not set("\x1b\x9b") & set(printed)


def test_a_step_on_a_terminal_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # rich takes the file for a terminal
    monkeypatch.setenv("TERM", "xterm")
    out = io.StringIO()
    with steps(plain_console(file=out)) as on_step:
        on_step(TEXT)
    assert TEXT in out.getvalue()


def test_commands_make_no_console_of_their_own() -> None:
    made = [
        file.name for file in Path(cli.__path__[0]).rglob("*.py") if re.search(r"Console\(", file.read_text())
    ]
    assert made == ["consoles.py"]


def test_a_fingerprint_is_one_word_however_narrow_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    manifest = manifest_of(encoder_draft(), ENCODER_FILES)
    out = io.StringIO()
    print_manifest(plain_console(file=out), manifest)
    assert f"\nfingerprint: {manifest.fingerprint}\n" in out.getvalue()
