"""`rankport loadtest` against a running server."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rankport.protos.errors import Overloaded
from rankport.runtime.server.security.config import SecurityConfig
from rankport.runtime.server.security.tokens import Limits, line_of, new_token
from rankport.sdk.cli.app import command_tree
from rankport.sdk.cli.output.loadtest.words import time_in_words
from support.certificates import CertificateFiles
from support.servers.serving import LOCAL, Serving, serving

QUICK = ("--rate", "100", "--duration-s", "0.1", "--warm-up-s", "0", "--arrivals", "fixed")


@pytest.fixture(scope="module")
def served() -> Iterator[Serving]:
    with serving() as running:
        yield running


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    file = tmp_path / "requests.jsonl"
    file.write_text('{"prefix": "q", "items": ["a", "b"]}\n{"texts": ["c"]}\n', encoding="utf-8")
    return file


def run(*arguments: object) -> Result:
    environment = {"COLUMNS": "120", "TERM": "dumb"}
    return CliRunner().invoke(command_tree(), ["loadtest", *map(str, arguments)], env=environment)


def test_a_rate_is_measured_and_written(served: Serving, requests: Path, tmp_path: Path) -> None:
    page, figures = tmp_path / "r" / "load.html", tmp_path / "load.json"
    done = run("--server", served.address, "--requests", requests, *QUICK, "--html", page, "--json", figures)
    assert done.exit_code == 0, done.output
    assert "0.00% failed" in done.output
    assert "ended: 10 OK" in done.output
    best = json.loads(figures.read_text())["best"]
    assert (best["by_status"], best["requests"]) == ({"OK": 10}, 10)
    assert best["items_per_s"] <= 150.0  # of the answers that came in time
    assert best["unscored_items_per_s"] == 0
    assert 0 < best["latency_ms"]["p50"] <= best["latency_ms"]["max"]
    text = page.read_text(encoding="utf-8")
    assert "Latency over time" in text
    assert "http://" not in text.replace(served.address, "")  # nothing is fetched


def test_both_classes_are_sent_and_their_latencies_told_apart(
    served: Serving, requests: Path, tmp_path: Path
) -> None:
    requests.write_text('{"prefix": "q", "items": ["a", "b"]}\n', encoding="utf-8")
    served.ranker.worker.priorities.clear()
    figures, page = tmp_path / "load.json", tmp_path / "load.html"
    given = ("--requests", requests, *QUICK, "--background-share", "0.5", "--json", figures, "--html", page)
    done = run("--server", served.address, *given)
    assert done.exit_code == 0, done.output
    assert "half of the interactive requests took" in done.output
    by_priority = json.loads(figures.read_text())["best"]["by_priority"]
    sent = {name: each["requests"] for name, each in by_priority.items()}
    assert sent == {
        name: served.ranker.worker.priorities.count(name) for name in ("interactive", "background")
    }
    assert sum(sent.values()) == 10
    assert all(each["latency_ms"]["p99"] > 0 for each in by_priority.values())
    assert "/s background<td>" in page.read_text(encoding="utf-8")


def test_refusals_are_counted_and_without_an_answer_the_exit_code_says_so(
    served: Serving, requests: Path
) -> None:
    served.ranker.refuse_with = Overloaded("full")
    try:
        lines = requests.read_text().splitlines()
        requests.write_text(lines[0] + "\n")
        done = run("--server", served.address, "--requests", requests, *QUICK, "--json", "-")
    finally:
        served.ranker.refuse_with = None
    assert done.exit_code == 1
    figures = json.loads(done.stdout)
    assert figures["best"]["by_status"] == {"RESOURCE_EXHAUSTED": 10}
    assert figures["best"]["reasons"] == {"RESOURCE_EXHAUSTED": "full"}
    assert figures["best"]["latency_ms"]["p99"] is None


def test_a_file_that_is_not_there_is_named_once(tmp_path: Path) -> None:
    done = run("--server", "localhost:1", "--requests", tmp_path / "none.jsonl", *QUICK)
    assert done.exit_code != 0
    told = str(done.exception)
    assert told.endswith("none.jsonl' cannot be read: No such file or directory")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.00854, "8.54 ms"), (0.9994, "999 ms"), (0.9996, "1000 ms"), (1.05, "1050 ms"), (12, "12.0 s")],
)
def test_times_are_whole_numbers_or_have_three_digits(seconds: float, words: str) -> None:
    assert time_in_words(seconds) == words


def test_requests_are_drawn_from_files(served: Serving, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("one\ntwo\n")
    (tmp_path / "i.txt").write_text("\n".join("abcdef"))
    drawn = ("--prefixes", tmp_path / "p.txt", "--items", tmp_path / "i.txt", "--per-request", 4, "--keys")
    done = run("--server", served.address, *drawn, *QUICK, "--json", "-")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["requests"].startswith("1,000 requests in turn, 4 items and")


def test_a_search_says_the_rate_that_keeps_and_what_each_that_was_tried_did(
    served: Serving, requests: Path, tmp_path: Path
) -> None:
    short = ("--duration-s", "0.05", "--warm-up-s", "0", "--arrivals", "fixed", "--timeout-s", "30")
    # No rate keeps to a nanosecond: five are tried.
    aim = ("--find-rate", "--p99", "0.000001ms", "--rate", "200", "--json", tmp_path / "load.json")
    done = run("--server", served.address, "--requests", requests, *short, *aim)
    assert done.exit_code == 1
    table = [line.split() for line in done.stdout.splitlines() if "ms" in line and "/s" in line.split()[0]]
    assert [row[0] for row in table] == ["0.7812/s", "3.125/s", "12.5/s", "50/s", "200/s"]
    assert {row[2] for row in table} == {"0.00%"}
    assert "rate answered failed p50 p90 p95 p99 p99.9 max" in " ".join(done.stdout.split())
    figures = json.loads((tmp_path / "load.json").read_text())
    assert (figures["best"], figures["aim"]["p99_s"]) == (None, 1e-9)
    assert [result["rate"] for result in figures["runs"]] == [200, 50, 12.5, 3.125, 0.78125]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--find-rate",), "--find-rate and --p99 go together"),
        (("--p99", "fast"), "'fast' is no time: give 200ms or 0.2s"),
        (("--url", "http://x/"), "give either --server or --url"),
        (("--prefixes", "p.txt"), "leave --prefixes and --items out"),
        (("--keys",), "--keys and --per-request are of requests that are drawn"),
        (("--per-request", "3"), "--keys and --per-request are of requests that are drawn"),
        (("--url", "http://x/", "--model", "m"), "which name their model: leave --model out"),
    ],
)
def test_wrong_usage_is_told(requests: Path, arguments: tuple[str, ...], message: str) -> None:
    done = run("--server", "localhost:1", "--requests", requests, *arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.output.replace("│", " ").split())


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, dict[str, str]]]:
    """A server behind TLS and tokens, and the environment that goes with it."""
    folder = tmp_path_factory.mktemp("guarded")
    files, token = CertificateFiles.written(folder / "tls"), new_token("loader")
    tokens = folder / "clients.txt"
    tokens.write_text(line_of(token, ["call"], Limits()) + "\n")
    security = SecurityConfig(token_file=str(tokens), tls_cert=str(files.cert), tls_key=str(files.key))
    with serving(replace(LOCAL, http_port=0, security=security)) as running:
        yield running, {"RANKPORT_TOKEN": token, "RANKPORT_TLS_CA": str(files.ca)}


@pytest.mark.parametrize("front", ["grpc", "http"])
def test_a_guarded_server_is_loaded_with_the_token_of_the_environment(
    guarded: tuple[Serving, dict[str, str]],
    front: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served, environment = guarded
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    bodies = {
        "grpc": '{"prefix": "q", "items": ["a"]}',
        "http": '{"model": "ranker", "query": "q", "documents": ["a"]}',
    }
    file = tmp_path / "requests.jsonl"
    file.write_text(bodies[front])
    place = {
        "grpc": ("--server", served.address),
        "http": ("--url", f"https://{served.server.http_address.rpartition('//')[2]}/v1/rerank"),
    }
    done = run(*place[front], "--requests", file, *QUICK, "--json", "-")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["best"]["by_status"] == {"OK": 10}
    monkeypatch.setenv("RANKPORT_TOKEN", "none")
    done = run(*place[front], "--requests", file, *QUICK, "--json", "-")
    refused = {"grpc": "UNAUTHENTICATED", "http": "HTTP 401"}
    assert json.loads(done.stdout)["best"]["by_status"] == {refused[front]: 10}
