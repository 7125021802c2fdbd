"""`rankport tag`: spans of texts at a server, for people and for pipelines, and what it refuses as wrong usage."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.server import Server
from rankport.sdk.cli.app import command_tree
from support.reading.taggers import LabelledTokens, labels_of, tagger_bundle, tagger_of

LONG = "the of and to in New York is on that by this with Ghent the sushi of"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    backend = LabelledTokens(labels_of("word-piece", {"New": "B-city", "York": "I-city", "Ghent": "B-city"}))
    with (
        tagger_of(tagger_bundle(tmp_path_factory.mktemp("tagger")), backend) as tagger,
        Server({"slots": tagger}, ServerConfig(port=0)) as server,
    ):
        yield server.address


def run(*arguments: str, stdin: str | None = None) -> Result:
    env = {"COLUMNS": "100", "TERM": "dumb"}
    return CliRunner().invoke(command_tree(), ["tag", *arguments], input=stdin, env=env)


def test_json_has_a_line_a_text(address: str, tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text('"👩‍🍳 in New York"\n{"text": "two"}\n')
    result = run("Ghent!", "--server", address, "--texts", str(tmp_path / "texts.jsonl"), "--json")
    assert result.exit_code == 0
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [[(s["text"], s["label"], s["start"]) for s in line["spans"]] for line in lines] == [
        [("Ghent", "city", 0)],
        [("New York", "city", 7)],
        [],
    ]
    assert {line["status"] for line in lines} == {"ok"}


def test_the_table_tells_spans_and_what_was_read_in_windows(address: str) -> None:
    result = run("--server", address, "--texts", "-", stdin=f"two\n{LONG}\n")
    said = " ".join(result.output.split())
    assert result.exit_code == 0
    assert "New York" in said
    assert "text 1: ok: read in 2 overlapping windows" in said
    assert "2 spans in 2 texts" in said


def test_lists_of_words_have_the_tag_of_each(address: str, tmp_path: Path) -> None:
    file = tmp_path / "words.jsonl"
    file.write_text('["in", "New", "York"]\n["\\u200b", "Ghent"]\n')
    result = run("--server", address, "--texts", str(file), "--json")
    assert result.exit_code == 0
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["text"] for line in lines] == ["in New York", "\u200b Ghent"]
    assert [[(s["text"], s["start"]) for s in line["spans"]] for line in lines] == [
        [("New York", 3)],
        [("Ghent", 2)],
    ]
    words = [[(word["word"], word["tag"]) for word in line["words"]] for line in lines]
    assert words == [
        [("in", "O"), ("New", "B-city"), ("York", "I-city")],
        [("\u200b", "O"), ("Ghent", "B-city")],
    ]
    assert lines[1]["words"][0]["score"] is None
    assert lines[0]["words"][1]["score"] > 0.5
    table = run("--server", address, "--texts", str(file))
    assert "2 spans in 2 texts" in table.output


def test_standard_input_is_jsonl_where_its_first_line_is_an_object(address: str) -> None:
    result = run("--server", address, "--texts", "-", "--json", stdin='{"text": "Ghent"}\n"two"\n')
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["Ghent", "two"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"key": "a"}', 'line 1: {"key": "a"} is neither a text nor {"text": …} or a list of words'),
        ("[]", "line 1: [] is neither a text nor"),
        ('["a", 3]', 'line 1: ["a", 3] is neither a text nor'),
        ('["a"]\n"b"', "texts[1] is a text and texts[0] a list"),
        ('"a', "line 1 is no JSON"),
    ],
)
def test_lines_that_are_no_texts_are_named(content: str, message: str, address: str, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text(content + "\n")
    result = run("--server", address, "--texts", str(file))
    assert result.exit_code != 0
    assert message in " ".join((result.output + str(result.exception)).replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no texts: give them as arguments or with --texts FILE"),
        (("a",), "give either --server or --bundle"),
        (("a", "--bundle", "b", "--model", "m"), "--model goes with --server"),
        (("a", "--bundle", "b", "--priority", "background"), "--priority goes with --server"),
        (("a", "--server", "localhost:1", "--timeout-s", "-1"), "timeout_s is -1.0"),
    ],
)
def test_wrong_usage_is_told(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())
