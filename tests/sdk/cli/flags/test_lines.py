"""Lines that a flag names: what is no UTF-8, and what is no JSON, is told with its place."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from rankport.sdk.cli.flags.lines import each_line, json_of, lines_of, text_of
from rankport.sdk.cli.flags.texts import tagged_texts_of_file, texts_of_file
from support.cli import rankport


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"text": "a", "text": "b"}'])
def test_what_is_no_json_is_told_with_its_place(text: str, tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="line 7 is no JSON: "):
        json_of(text, "line 7")
    (tmp_path / "items.jsonl").write_text(f'{{"text": "a"}}\n{text}\n')
    run = rankport("score", "--items", tmp_path / "items.jsonl", "--prefix", "q", "--bundle", "b")
    assert run.returncode == 2
    assert "items.jsonl, line 2 is no JSON" in run.stderr


@pytest.mark.parametrize(
    "command",
    ["score --prefix q --items @", "classify --file @", "tag --texts @", "rank @"],
)
def test_a_file_without_a_line_is_named(command: str, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n \n")
    words = command.replace("@", str(tmp_path / "empty.jsonl")).split()
    run = rankport(*words, "--bundle", "b")
    assert run.returncode == 2
    assert "empty.jsonl has no line with anything in it" in run.stderr


def test_standard_input_is_read_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfone\ntwo\n"), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", stream)
    lines = each_line("-", "FILE")
    assert next(lines) == "one\n"
    assert not stream.closed
    assert list(lines) == ["two\n"]


def test_standard_input_is_utf_8_as_files_are_whatever_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of Latin-1 had it read as other characters, and one of C as halves of them."""
    for content, read in ((b"gr\xc3\xb6\xc3\x9fe\n", ["größe\n"]), (b"gr\xf6\xdfe\n", None)):
        for locale in ({"encoding": "latin-1"}, {"encoding": "ascii", "errors": "surrogateescape"}):
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), **locale))
            if read is None:
                with pytest.raises(typer.BadParameter, match="--items - is not UTF-8"):
                    lines_of("-", "--items")
            else:
                assert lines_of("-", "--items") == read
                assert lines_of("-", "--others") == []  # nothing is left, which is no error of the stream


def test_a_process_without_standard_input_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(OSError, match="is closed: give a file"):
        lines_of("-", "--items")


@pytest.mark.parametrize(
    ("given", "text"),
    [("a\n", "a"), ("a\r\n", "a"), ("a", "a"), ("a\nb\n\n", "a\nb\n"), ("a\r", "a\r"), ("\n", "")],
)
def test_the_line_end_that_echo_puts_behind_a_text_is_none_of_it(
    given: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt of `echo` had one token more than the same prompt as an argument."""
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode()), encoding="utf-8", newline="\n")
    )
    assert text_of("-", "FILE") == text


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "bin").write_bytes(b"a\n\xff")
    with pytest.raises(typer.BadParameter, match=r"FILE .*bin is not UTF-8 \(invalid start byte at byte 2\)"):
        lines_of(str(tmp_path / "bin"), "FILE")


@pytest.mark.parametrize("read", [texts_of_file, tagged_texts_of_file])
def test_standard_input_is_jsonl_where_its_first_line_is_an_object(
    read: Callable[[str], list[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for text, expected in (
        ('{"text": "a"}\n"b"\n', ["a", "b"]),
        ('"a"\n{"text": "b"}\n', ['"a"', '{"text": "b"}']),
    ):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        assert read("-") == expected


@pytest.mark.parametrize("command", ["score --prefix q a", "classify a", "tag a", "generate a"])
def test_a_priority_beside_a_bundle_is_refused(command: str) -> None:
    run = rankport(*command.split(), "--bundle", "b", "--priority", "background")
    assert run.returncode == 2
    assert "--priority goes with --server" in run.stderr
