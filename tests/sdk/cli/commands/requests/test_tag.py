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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no texts: give them as arguments or with --texts FILE"),
        (("a",), "give either --server or --bundle"),
        (("a", "--bundle", "b", "--model", "m"), "--model goes with --server"),
        (("a", "--server", "localhost:1", "--timeout-s", "-1"), "timeout_s is -1.0"),
    ],
)
def test_wrong_usage_is_told(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())
