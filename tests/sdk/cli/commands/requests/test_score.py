"""`rankport score`: what it reads, what it refuses as wrong usage, and a table that fits any terminal."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from rankport.protos.errors import InvalidRequest
from rankport.protos.ranking import Ranking
from rankport.protos.types import Item, ItemStatus, Key, ScoreResult, Usage
from rankport.sdk.cli.app import command_tree
from rankport.sdk.cli.output.results.score import write_table
from support.servers.serving import Serving, serving

NARROW = {"COLUMNS": "80", "TERM": "dumb"}


@pytest.fixture
def served() -> Iterator[Serving]:
    with serving() as running:
        yield running


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(command_tree(), ["score", *arguments], input=stdin, env=NARROW)


def at(served: Serving, *arguments: str, stdin: str | None = None) -> Result:
    return run("--server", served.address, "--prefix", "q", *arguments, stdin=stdin)


def said(result: Result) -> str:
    """What it wrote, without the frame and the line ends of the terminal."""
    return " ".join(result.output.replace("│", " ").split())


def scored(*outcomes: tuple[float, ItemStatus, str]) -> ScoreResult:
    scores, status, messages = zip(*outcomes, strict=True)
    logits = np.array(scores, np.float32)[:, None]
    usage = Usage(0, 4, 9, 0.001, 0.002, 0.003)
    return ScoreResult(logits[:, 0], logits, status, messages, usage, "f" * 64, *READ_OUT)


READ_OUT = ("probability", "softmax over yes, no: yes")
LONG = "a welder who\nworks \x1b[31m at sea " * 20
OK, MISSING = ItemStatus.OK, ItemStatus.NOT_FOUND
WHY = f"no tokens of key 'k' under encoder {'e' * 64}: run `rankport encode` for it"


@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_a_long_item_or_message_leaves_rank_score_and_status_in_the_table(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    items: list[Item] = [LONG, Key("k"), "[bold]short"]
    result = scored((0.25, OK, ""), (np.nan, MISSING, WHY), (0.5, OK, ""))
    write_table(Ranking.of(result, items), sys.stdout)
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if line.startswith(("│", "┃"))]
    cells = [[cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in table]
    assert [(cell[0], cell[1], cell[3]) for cell in cells] == [
        ("rank", "score", "status"),
        ("1", "0.500000", "ok"),
        ("2", "0.250000", "ok"),
        ("-", "-", "not_found"),
    ]
    assert cells[1][2] == "[bold]short"
    assert cells[2][2].startswith("a welder who works")
    assert cells[2][2].endswith("…")
    assert max(map(len, table)) <= int(columns)
    assert f"not_found k: {WHY}" in lines


def test_table_and_json_say_what_a_score_is(served: Serving) -> None:
    table, report = at(served, "a", "b"), at(served, "a", "b", "--json")
    assert "a score is a logit: logit of sum" in said(table)
    assert json.loads(report.stdout)["score"] == {"kind": "logit", "read_out": "logit of sum"}


def test_of_many_messages_the_first_are_shown_and_the_rest_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    items = [Key(str(row)) for row in range(25)]
    write_table(Ranking.of(scored(*[(np.nan, MISSING, "why")] * 25), items), sys.stdout)
    shown = capsys.readouterr().out
    assert shown.count(": why") == 10
    assert "… and 15 more: --format json has them all" in shown


def test_csv_and_json_have_rank_place_item_score_and_status_best_first(served: Serving) -> None:
    table = list(csv.reader(at(served, "a", "bb", "a,c", "--format", "csv").stdout.splitlines()))
    rows = json.loads(at(served, "a", "bb", "a,c", "--format", "json").stdout)["items"]
    assert table[0] == ["rank", "index", "item", "score", "status", "message"]
    assert [row[:3] for row in table[1:]] == [["1", "2", "a,c"], ["2", "1", "bb"], ["3", "0", "a"]]
    assert [[row[name] for name in table[0]] for row in rows] == [
        [int(rank), int(index), item, float(score), status, message]
        for rank, index, item, score, status, message in table[1:]
    ]


def test_a_file_is_written_as_its_ending_says_and_nothing_is_printed(served: Serving, tmp_path: Path) -> None:
    printed = at(served, "a", "bb", "--top-k", "1", "--format", "csv").stdout
    result = at(served, "a", "bb", "--top-k", "1", "--out", str(tmp_path / "new" / "ranked.csv"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert (tmp_path / "new" / "ranked.csv").read_text() == printed
    assert len(printed.splitlines()) == 2


@pytest.mark.parametrize("line", ['{"token_ids": [1.5]}', '{"token_ids": [true]}', '{"token_ids": ["1"]}'])
def test_token_ids_that_are_no_integers_are_refused_by_line(
    served: Serving, tmp_path: Path, line: str
) -> None:
    file = tmp_path / "items.jsonl"
    file.write_text(f'"fine"\n{line}\n')
    result = at(served, "--items", str(file))
    assert result.exit_code == 2
    assert "line 2: token_ids: token id" in said(result)
    assert served.ranker.worker.computed == 0


@pytest.mark.parametrize("features", ['{"bm25": "high"}', "[1.0]", '{"bm25": true}'])
def test_features_that_are_no_numbers_by_name_are_refused_by_line(served: Serving, features: str) -> None:
    result = at(served, "--items", "-", stdin=f'{{"text": "a", "features": {features}}}\n')
    assert result.exit_code == 2
    assert "stdin, line 1: features are" in said(result)
    assert served.ranker.worker.computed == 0


def test_a_file_may_begin_with_the_mark_of_utf8_and_in_other_encodings_is_refused_with_the_way_out(
    served: Serving, tmp_path: Path
) -> None:
    path = tmp_path / "items.txt"
    path.write_text("a\nb\n", encoding="utf-8-sig")
    result = at(served, "--items", str(path), "--json")
    assert {row["item"] for row in json.loads(result.stdout)["items"]} == {"a", "b"}
    path.write_text("a\nb\n", encoding="utf-16")
    result = at(served, "--items", str(path))
    assert result.exit_code == 2
    assert "is not UTF-8 (invalid start byte at byte 0): convert it (iconv -f" in said(result)


@pytest.mark.parametrize(
    ("stdin", "labels"),
    [
        ('{"text": "a"}\n{"token_ids": [1, 2]}\n"c"\n', {"a", "2 token ids", "c"}),
        ("\na\n{b\n", {"a", "{b"}),
        ('"quoted" text\n', {'"quoted" text'}),
        ('\ufeff{"text": "a"}\n', {"a"}),
    ],
)
def test_standard_input_is_texts_or_json_lines(served: Serving, stdin: str, labels: set[str]) -> None:
    result = at(served, "--items", "-", "--json", stdin=stdin)
    assert result.exit_code == 0, result.output
    assert {row["item"] for row in json.loads(result.stdout)["items"]} == labels


def test_on_missing_reaches_the_ranker(served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    submit = served.ranker.submit

    def recording(*arguments: Any, **options: Any) -> Any:
        asked.append(options["on_missing"])
        return submit(*arguments, **options)

    monkeypatch.setattr(served.ranker, "submit", recording)
    for option in ("fail", "skip"):
        assert at(served, "a", "--on-missing", option).exit_code == 0
    assert at(served, "a").exit_code == 0
    assert at(served, "a", "--on-missing", "drop").exit_code == 2
    assert asked == ["fail", "skip", "skip"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--bundle", "b", "--prefix", "q", "--model", "foo", "a"), "--model goes with --server"),
        (("--bundle", "b", "--prefix", "q", "--frozen", "a"), "--frozen goes with --store"),
        (("--server", "s:1", "--field", "query=x", "--field", "query=y", "a"), "'query' is given 2 times"),
        (
            ("--server", "s:1", "--prefix", "q", "--out", "x.txt", "a"),
            "--out x.txt: its ending says no format",
        ),
        (("--server", "s:1", "--prefix", "q", "--json", "--format", "csv", "a"), "--json and --format csv"),
        (("--server", "s:1", "--prefix", "q", "--top-k", "0", "a"), "--top-k"),
        (("--server", "s:1", "--prefix", "q", "--timeout-s", "-1", "a"), "--timeout-s: timeout_s is -1.0"),
        (("--server", "s:1", "--prefix", "q", "--timeout-s", "nan", "a"), "--timeout-s: timeout_s is nan"),
    ],
    ids=[
        "model of a bundle",
        "frozen without a store",
        "field twice",
        "no format",
        "two formats",
        "no items",
        "negative timeout",
        "no timeout",
    ],
)
def test_wrong_usage_is_told_before_anything_is_loaded(arguments: tuple[str, ...], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in said(result)


def test_a_server_that_is_no_address_is_refused() -> None:
    result = run("--server", "http://localhost:8500", "--prefix", "q", "a")
    assert isinstance(result.exception, InvalidRequest)
    assert "give host:port" in str(result.exception)


def test_a_bundle_without_its_name_is_wrong_usage_of_serve() -> None:
    result = CliRunner().invoke(command_tree(), ["serve", "=r.bundle"], env=NARROW)
    assert result.exit_code == 2
    assert "'=r.bundle' gives no name" in said(result)


def test_priority_reaches_the_server(served: Serving) -> None:
    before = len(served.ranker.worker.priorities)
    assert at(served, "a", "--priority", "background").exit_code == 0
    assert at(served, "a").exit_code == 0
    assert served.ranker.worker.priorities[before:] == ["background", "interactive"]
