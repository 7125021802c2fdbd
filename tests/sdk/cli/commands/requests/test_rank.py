"""`rankport rank`: lines of requests to lines of rankings, and what it refuses as wrong usage."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from rankport.protos.sets import SetRanking
from rankport.protos.types import Usage
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.set_ranker.set_ranker import SetRanker
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.server import Server
from rankport.sdk.cli.app import command_tree
from support.servers.serving import serving
from support.sets.requests import NOW, candidates, history, times


@pytest.fixture(scope="module")
def bundle(set_bundle: Callable[[str, str], Bundle]) -> Bundle:
    return set_bundle("hstu", "set-wise")


def line(**more: Any) -> str:
    request = {"history": history(4), "candidates": candidates(5), "times": times(4), "now": NOW, **more}
    return json.dumps(request, default=lambda array: array.tolist()) + "\n"


def run(*arguments: str, stdin: str) -> Result:
    return CliRunner().invoke(command_tree(), ["rank", "-", *arguments], input=stdin, env={"TERM": "dumb"})


def test_a_bundle_and_a_server_answer_line_by_line(bundle: Bundle) -> None:
    lines = line(id="a") + "\n" + line(head_weights={"like": 1.0}, top_k=4)
    with SetRanker.load(bundle) as ranker, Server({"sets": ranker}, ServerConfig(port=0)) as server:
        local = ranker.rank(history(4), candidates(5), times=times(4), now=NOW)
        served = run("--server", server.address, "--top-k", "2", stdin=lines)
    alone = run("--bundle", str(bundle.path), "--top-k", "2", stdin=lines)
    assert (served.exit_code, alone.exit_code) == (0, 0)
    first, second = (json.loads(told) for told in alone.stdout.splitlines())
    assert (first["id"], first["order"]) == ("a", local.order[:2].tolist())
    np.testing.assert_allclose(first["scores"], local.scores[local.order[:2]], atol=1e-6)
    assert second["order"] == np.argsort(-local.head("like"), kind="stable")[:4].tolist()
    np.testing.assert_allclose(second["heads"]["like"], second["scores"])
    assert (first["events_kept"], second["events_kept"]) == (0, 4)
    assert [json.loads(told)["order"] for told in served.stdout.splitlines()] == [
        first["order"],
        second["order"],
    ]


def test_null_is_a_missing_number(bundle: Bundle) -> None:
    holes = history(4)
    holes["rating"][1] = 6.5  # what the bundle counts for it
    rows = {name: column.tolist() for name, column in holes.items()}
    rows["rating"][1] = None
    told = run("--bundle", str(bundle.path), stdin=line(history=holes) + line(history=rows))
    first, second = (json.loads(told)["scores"] for told in told.stdout.splitlines())
    assert first == second


def test_a_score_that_is_no_number_is_null(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON has neither NaN nor anything infinite: other readers than Python's refused the line."""
    scores = np.array([[1.5], [np.inf], [np.nan]], np.float32)
    answer = SetRanking(scores[:, 0], scores, ("like",), np.arange(3), "", Usage(0, 0, 0, 0.0, 0.0, 0.0))
    monkeypatch.setattr(SetRanker, "rank", lambda *_, **__: answer)
    told = run("--bundle", str(bundle.path), stdin=line())
    assert '"scores": [1.5, null, null], "heads": {"like": [1.5, null, null]}' in told.stdout


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        ("{", "line 1 is no JSON"),
        ('{"history": {}}', "head_weights, history, now, sessions, times, top_k: missing candidates"),
        ('{"history": {}, "candidate": {}}', "missing candidates, unknown candidate"),
        (line() + line(colour=1), "line 2: must be an object"),
        (line(head_weights={"share": 1.0}), "line 1: head_weights: 'share' is no head"),
        (line() + line(candidates=candidates(17)), "line 2: candidates has 17 rows"),
    ],
)
def test_a_wrong_line_is_told_by_its_number(stdin: str, message: str, bundle: Bundle) -> None:
    result = run("--bundle", str(bundle.path), stdin=stdin)
    assert message in f"{result.output} {result.exception}"


def test_one_of_server_and_bundle_is_given(bundle: Bundle) -> None:
    assert run(stdin=line()).exit_code == 2
    assert run("--bundle", str(bundle.path), "--model", "m", stdin=line()).exit_code == 2


def test_a_number_of_places_below_one_is_wrong_usage(bundle: Bundle) -> None:
    assert run("--bundle", str(bundle.path), "--top-k", "0", stdin=line(top_k=2)).exit_code == 2


def test_a_bad_line_of_a_file_is_told_before_the_bundle_is_opened(tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_text(line() + "{}\n")
    result = CliRunner().invoke(
        command_tree(), ["rank", str(file), "--bundle", str(tmp_path / "none.bundle")]
    )
    assert "line 2: must be an object with history and candidates" in f"{result.output} {result.exception}"
    assert not result.stdout


def test_what_is_not_found_is_told_by_its_line() -> None:
    with serving() as served:
        result = run("--server", served.address, stdin="\n" + line())
    assert "line 2: the request names no model that ranks sets" in f"{result.output} {result.exception}"
