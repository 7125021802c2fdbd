"""Files that commands write: whole, or as they were before."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rankport.runtime.jobs.datasets.part_files import write_durably
from rankport.runtime.jobs.rows.records import BadRow
from rankport.runtime.server.lifecycle.saved import SavedState, write_state
from rankport.sdk.cli.flags.written import written_format
from rankport.sdk.cli.output.encoding.encode import write_bad_rows
from rankport.sdk.cli.output.writing import as_shown, replace_text, write_file, write_json
from support.effort import full_effort
from support.file_limits import files_of_at_most


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_a_model_writes_is_harmless_on_a_terminal_and_itself_in_a_pipe() -> None:
    text = "a\x1b[2Jb\n"
    assert (as_shown(text, _Terminal()), as_shown(text, io.StringIO())) == ("a\\x1b[2Jb\n", text)


def test_a_full_disk_leaves_what_was_there_and_nothing_beside(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text("before")
    with files_of_at_most(100), pytest.raises(OSError, match="cannot be written: File too large") as failure:
        write_json(file, list(range(1000)))
    assert (failure.value.errno, failure.value.filename) == (errno.EFBIG, f"--json {file}")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_a_file_that_is_replaced_keeps_its_rights_and_a_link_its_place(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("before")
    file.chmod(0o640)
    link.symlink_to(file)
    write_file("--out", link, "after\r\n")
    assert (file.read_bytes(), file.stat().st_mode & 0o777, link.is_symlink()) == (b"after\r\n", 0o640, True)


def test_what_lies_in_the_place_beside_a_file_is_not_written_to(tmp_path: Path) -> None:
    """Its name can be guessed: where others may write to the folder it may be a link to another file."""
    file, other = tmp_path / "file", tmp_path / "other"
    other.write_text("theirs")
    for name in (f".file.{os.getpid()}.new", ".file.writing", f".file.{os.getpid()}.writing"):
        (tmp_path / name).symlink_to(other)
    write_file("--out", file, "ours")
    assert file.read_text() == "ours"
    write_state(file, SavedState())
    write_durably(file, lambda stream: stream.write(b"ours"))
    assert (file.read_text(), other.read_text()) == ("ours", "theirs")


def test_a_dash_is_standard_output_of_every_option_that_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of that name was left where a command ran."""
    monkeypatch.chdir(tmp_path)
    write_file("--html", Path("-"), "page\n")
    write_json(Path("-"), 1)
    with write_bad_rows(Path("-"), []) as write:
        assert write is not None
        write(BadRow(3, "it has no text", "a"))
    assert (
        capsys.readouterr().out
        == 'page\n1\n{"line": 3, "reason": "it has no text", "id": "a", "row": null}\n'
    )
    assert written_format(None, False, Path("-")) == "table"
    assert not list(tmp_path.iterdir())


def test_folders_above_are_made_and_a_device_is_written_to(tmp_path: Path) -> None:
    write_file("--out", tmp_path / "new" / "file", "text")
    assert (tmp_path / "new" / "file").read_text() == "text"
    replace_text(Path("/dev/null"), "text")
    assert not Path("/dev/null").is_file()
    with pytest.raises(OSError, match="cannot be written: No space left"):
        write_file("--out", Path("/dev/full"), "text")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param("token new search", "standard output: cannot be written: No", marks=full_effort),
        pytest.param("--help", "No", marks=full_effort),
        ("--version", "standard output: cannot be written: No"),
    ],
)
def test_standard_output_that_is_full_is_one_line(words: str, told: str) -> None:
    command = [sys.executable, "-m", "rankport.sdk.cli", *words.split()]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "wb") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=buffered)
    assert (run.returncode, run.stderr) == (1, f"rankport: OSError: {told} space left on device\n")
