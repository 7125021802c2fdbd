"""A number out of its range is told by name, value and bound: every option of every command, wherever it stands."""

from pathlib import Path

import pytest

from support.cli import rankport
from support.command_tree import all_commands, option_name

BOUNDED = [
    (words, option_name(parameter), parameter.min, parameter.max)
    for words, command in all_commands()
    for parameter in command.params
    if getattr(parameter, "min", None) is not None or getattr(parameter, "max", None) is not None
]
COMMANDS = sorted({words for words, *_ in BOUNDED})


def bound_in_words(least: float | None, most: float | None) -> str:
    words = [
        str(int(bound)) if bound == int(bound) else str(bound) for bound in (least, most) if bound is not None
    ]
    return (
        f"from {' to '.join(words)}"
        if len(words) == 2
        else f"at {'most' if least is None else 'least'} {words[0]}"
    )


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_bound_of_a_command_is_told(words: tuple[str, ...]) -> None:
    for command, option, least, most in BOUNDED:
        if command != words:
            continue
        for outside in [-1 if bound == least else bound + 1 for bound in (least, most) if bound is not None]:
            done = rankport(*words, option, outside)
            assert done.returncode == 2
            assert done.stderr.startswith(
                f"rankport: InvalidRequest: {option} is '{outside}': it must be {bound_in_words(least, most)} ("
            )


@pytest.mark.parametrize("check", [(), ("--check-config",)], ids=["serve", "check"])
def test_variables_and_files_tell_it_as_flags_do(
    check: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "server.toml"
    file.write_text("threads = 1025\n")
    told = rankport("serve", "b", "--config", file, *check)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr == (f"rankport: InvalidRequest: {file}: threads is 1025: it must be from 0 to 1024\n")
    monkeypatch.setenv("RANKPORT_SERVE_THREADS", "-1")
    told = rankport("serve", "b", *check)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr == (
        "rankport: InvalidRequest: RANKPORT_SERVE_THREADS: threads is '-1': it must be from 0 to 1024\n"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("serve", "b", "--port", "x"), "--port is 'x': Input should be a valid integer"),
        (("rank", "f", "--top-k", "1.5"), "--top-k is '1.5': Input should be a valid integer"),
        (("serve", "b", "--device", "abacus"), "--device is 'abacus': 'abacus' is not one of 'cpu', 'cuda'"),
        (("serve", "b", "--grace-s", "nan"), "--grace-s is 'nan': it must be at least 0"),
        (
            ("serve", "b", "--max-message-bytes", "4GiB"),
            "max_message_bytes is 4294967296: it must be from 1 to",
        ),
    ],
)
def test_a_value_of_another_type_is_told_too(words: tuple[str, ...], told: str) -> None:
    done = rankport(*words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"rankport: InvalidRequest: {told}")
