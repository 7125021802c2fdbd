"""A file that a command writes is none of those that it reads, and no other that it writes."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from rankport.sdk.cli.flags.written import FILES_AS_TEXT, WRITTEN, guard_files
from support.cli import rankport
from support.command_tree import all_commands, option_name


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("score --bundle b --prefix q --items @ --out @", "--items and --out are both"),
        ("classify --bundle b --file @ --out ./@", "--file and --out are both"),
        ("store diff @ other --list @", "first and --list are both"),
        ("audit membership --members a --non-members @ --html @", "--non-members and --html are both"),
        ("verify b --checkpoint c --json new --html new", "--json and --html are both"),
        (
            "verify b --checkpoint c --json - --html -",
            "--json and --html are both -: standard output takes one",
        ),
    ],
)
def test_a_file_to_write_that_is_another_of_the_command_is_refused(
    line: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("mine\n")
    done = rankport(*line.replace("@", "x.csv").split())
    assert done.returncode == 2
    assert told in done.stderr
    assert (tmp_path / "x.csv").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("ground", {"init": "grounded", "out": Path("grounded")}),
        ("export", {"name": "jobs", "out": Path("jobs")}),
        ("export", {"quantize": "int8", "out": Path("int8")}),
        ("export", {"prompt": Path("bare"), "out": Path("bare")}),
        ("classify", {"texts": ["a.csv"], "out": Path("a.csv")}),
        ("score", {"prefix": "a.csv", "field": ["a.csv"], "out": Path("a.csv")}),
    ],
)
def test_a_word_or_name_is_no_file_that_would_be_written_over(words: str, given: dict[str, object]) -> None:
    params = next(command.params for name, command in all_commands() if " ".join(name) == words)
    assert given.keys() <= {param.name for param in params}
    command = SimpleNamespace(params=params, callback=lambda **_: "ran")
    guard_files(command)
    assert command.callback(**given) == "ran"


def test_texts_that_name_files_are_known() -> None:
    """Where a file is written, an option whose text is a file or folder to read is looked at as well."""
    named = {
        option_name(parameter)
        for _, command in all_commands()
        if {"--out", "--html", "--list", "--bad-rows"} & {option_name(each) for each in command.params}
        for parameter in command.params
        if str(parameter.get_runtime_param().annotation) in ("<class 'str'>", "list[str]")
        and "FILE" in str(parameter.metavar)
    }
    assert {"--file", "--items", "--prefixes"} <= named <= FILES_AS_TEXT


def test_what_is_written_is_known() -> None:
    """An option whose file is checked to be writable is one that would be written over."""
    named = {
        option_name(parameter)
        for _, command in all_commands()
        for parameter in command.params
        if "rite" in str(parameter.help) and "Path" in str(parameter.get_runtime_param().annotation)
    }
    assert named <= WRITTEN | {"--plots"}
