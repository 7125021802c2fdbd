"""One rule for the whole command line: a mistake is one line on stderr, and its exit code says whose it is."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rankport.protos.installed import extras
from rankport.protos.installed.packages import VERSION
from support.cli import rankport


def shown(value: object) -> str:
    return " ".join(value)[:40] if isinstance(value, list) else ""


WRONG = [  # what was asked is wrong, wherever that is found: by the parser, by options together, by what they are for
    (["nosuch"], "No such command 'nosuch' (see rankport --help)"),
    (["scor"], "No such command 'scor'. Did you mean 'score'? (see rankport --help)"),
    (["store", "cpy"], "No such command 'cpy'. Did you mean 'copy'? (see rankport store --help)"),
    (["--nosuch"], "No such option: --nosuch (see rankport --help)"),
    (["inspect"], "(see rankport inspect --help)"),
    (["serve", "b", "--port", "99999"], "--port is '99999': it must be from 0 to 65535"),
    (["serve", "b", "--port", "x"], "--port is 'x': "),
    (
        ["serve", "b", "--http-port", "8599", "--metrics-port", "8599"],
        "http_port and metrics_port are both 8599",
    ),
    (
        ["serve", "b", "--max-connections", "9" * 20],
        f"--max-connections is '{'9' * 20}': it must be from 1 to 1000000",
    ),
    (["serve", "b", "--device-ids", "0,1"], "device_ids is [0, 1]: a CPU has one engine"),
    (["serve", "b", "--prefix-cache-bytes", "4XB"], "'4XB' is no size"),
    (["serve", "=b"], "'=b' gives no name"),
    (
        ["score", "a"],
        "give either --prefix ('' where the prompt has no fields) or --field NAME=TEXT (see rankport score --help)",
    ),
    (["score", "a", "--prefix", "q", "--timeout-s", "-1", "--bundle", "b"], "timeout_s is -1.0"),
    (["score", "a", "--prefix", "q", "--server", "http://b:1"], "address is 'http://b:1'"),
    (["score", "a", "--prefix", "q", "--server", "b:99999"], "there is no port 99999, they end at 65535"),
    (
        ["generate", "a", "--bundle", "b", "--seed", "9" * 20],
        f"seed is {'9' * 20}: give a whole number from 0 to 9",
    ),
    (["export", "c", "--kind", "ranker", "--pooling", "mean", "--out", "o"], "--pooling belongs to --kind"),
    (["export", "c", "--kind", "nosuch", "--out", "o"], "kind 'nosuch' is unknown"),
    (
        [
            "loadtest",
            "--server",
            "b:1",
            "--requests",
            "r",
            "--rate",
            "1e6",
            "--duration-s",
            "1e6",
            "--warm-up-s",
            "0",
        ],
        "that is 1,000,000,000,000 requests, and a test has 100,000,000 at most",
    ),
    # as scripts give it of a variable that is not set: each would be this folder, or nothing
    (["encode", "--bundle", "b", "--items", "", "--store", "s"], "'--items': it is empty: give a value (see"),
    (
        ["encode", "--bundle", "b", "--items", "i", "--store", ""],
        "'--store': it is empty: give a value, or leave",
    ),
    (
        ["encode", "--bundle", "b", "--items", "i", "--dataset", ""],
        "'--dataset': it is empty: give a value, or",
    ),
    (
        ["score", "a", "--items", "", "--prefix", "", "--bundle", "b"],
        "'--items': it is empty: give a value, or",
    ),
    (
        ["classify", "a", "--file", "", "--bundle", "b"],
        "'--file': it is empty: give a value, or leave it out",
    ),
    (["inspect", ""], "'bundle': it is empty: give a value (see"),
    (["store", "copy", "s", ""], "'TO': it is empty: give a value (see"),
    (["export", "c", "--out", "o", "--judged", ""], "'--judged': it is empty: give a value, or leave it out"),
]


@pytest.mark.parametrize(
    ("words", "told"), WRONG, ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else ""
)
def test_what_was_asked_is_wrong(words: list[str], told: str) -> None:
    done = rankport(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("rankport: InvalidRequest: ")
    assert told in done.stderr
    assert (done.stderr.count("\n"), done.stdout) == (1, "")


FAILED = [
    (["inspect", "nowhere"], "BundleError: "),
    (["serve", "nowhere"], "BundleError: "),
    (
        ["score", "--items", "\x1b[2J", "--prefix", "q", "--bundle", "b"],
        r"FileNotFoundError: \x1b[2J: No such",
    ),
    (["score", "a", "--prefix", "q", "--bundle", "nowhere"], "BundleError: "),
    (["score", "--items", "absent", "--prefix", "q", "--bundle", "b"], "FileNotFoundError: "),
    (["classify", "--file", "absent", "--bundle", "b"], "FileNotFoundError: "),
    (["tag", "--texts", "absent", "--bundle", "b"], "FileNotFoundError: "),
    (["rank", "absent", "--bundle", "b"], "FileNotFoundError: "),
    (["generate", "a", "--bundle", "b", "--json-schema", "absent"], "FileNotFoundError: "),
    (["inspect", "b", "--json", "."], "IsADirectoryError: --json .: cannot be written: "),
    (["verify", "b", "--checkpoint", "c", "--html", "."], "IsADirectoryError: --html .: cannot be written: "),
    (["loadtest", "--server", "b:1", "--html", "."], "IsADirectoryError: --html .: cannot be written: "),
    (["score", "a", "--prefix", "q", "--bundle", "b", "--out", "."], "IsADirectoryError: --out .: cannot be"),
]


@pytest.mark.parametrize(
    ("words", "told"), FAILED, ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else ""
)
def test_what_is_named_cannot_be_used(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = rankport(*words)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"rankport: {told}")


def test_no_arguments_show_the_help_which_tells_the_rule() -> None:
    done = rankport()
    assert done.returncode == 2
    said = " ".join((done.stdout + done.stderr).split())
    assert "Exit codes: 0 done; 2 what was asked is wrong" in said
    assert rankport("--help").returncode == 0


@pytest.mark.parametrize(("given", "told"), [(None, "NONE"), ("DEBUG", "DEBUG")])
def test_what_grpc_notes_is_not_among_the_lines_of_a_command(
    given: str | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRPC_VERBOSITY", given or "")
    if given is None:
        monkeypatch.delenv("GRPC_VERBOSITY")
    assert rankport("--version").returncode == 0
    assert os.environ["GRPC_VERBOSITY"] == told


def test_ctrl_c_while_the_command_line_is_imported_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(what: str) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(extras, "extras_named", interrupted)
    done = rankport("doctor")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_version_is_told() -> None:
    done = rankport("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"rankport {VERSION}\n", "")
    assert rankport("--version", "inspect", "nowhere").stdout == f"rankport {VERSION}\n"


def test_shells_complete_commands_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_RANKPORT_COMPLETE", "complete_bash")
    for words, completed in (
        ("rankport sc", "score"),
        ("rankport serve --max-pending-c", "--max-pending-calls"),
    ):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        assert rankport().stdout.split() == [completed]


@pytest.mark.parametrize(
    ("number", "ignored", "code"),
    [(signal.SIGTERM, False, 143), (signal.SIGHUP, False, 129), (signal.SIGHUP, True, 2)],
    ids=["terminated", "terminal closed", "terminal closed under nohup"],
)
def test_a_command_that_is_told_to_end_does_so_with_the_code_of_its_signal(
    number: signal.Signals, ignored: bool, code: int, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "texts")
    words = ["tag", "--texts", str(tmp_path / "texts"), "--bundle", str(tmp_path / "nowhere")]
    before = signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "rankport.sdk.cli", *words], stderr=subprocess.DEVNULL
        )
    finally:
        signal.signal(number, before)
    with process, (tmp_path / "texts").open("w"):  # opened once the command reads it
        process.send_signal(number)
        if not ignored:
            process.wait(timeout=60)
    assert process.returncode == code


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize(("words", "code"), [("token new a --file tokens", 0), ("inspect nowhere", 1)])
def test_a_closed_output_is_as_one_that_nobody_reads(
    words: str, code: int, closed: str, tmp_path: Path
) -> None:
    command = f"{shlex.quote(sys.executable)} -m rankport.sdk.cli {words} {closed}"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
