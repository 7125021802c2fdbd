"""`rankport jobs`: what it asks a server for, and how it tells the answer."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli import rankport
from support.servers.jobs_server import jobs_config, write_items
from support.servers.serving import serving


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    write_items(tmp_path, 20)
    with serving(jobs_config(tmp_path)) as running:
        yield running.address


def test_jobs_are_created_watched_listed_and_shown(address: str) -> None:
    create = ("jobs", "create", "--items", "items.csv", "--store", "tokens", "--id", "a", "--server", address)
    done = rankport(*create, "--watch")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("a: done; 20 rows: 20 encoded, 0 unchanged, 0 bad; ")
    assert done.stdout.endswith(" s; items.csv to tokens\n")
    watched = rankport("jobs", "watch", "a", "--json", "--server", address)
    (last,) = map(json.loads, watched.stdout.splitlines())
    assert (last["state"], last["counts"]["encoded"], last["task"]["store"]) == ("done", 20, "tokens")
    listed = rankport("jobs", "list", "--server", address)
    assert listed.stdout == done.stdout
    assert json.loads(rankport("jobs", "show", "a", "--json", "--server", address).stdout) == last
    assert rankport("jobs", "cancel", "a", "--server", address).stdout == done.stdout


def test_a_job_that_fails_is_an_exit_of_one_with_its_bad_rows(address: str, tmp_path: Path) -> None:
    (tmp_path / "blank.csv").write_text("id,text\na,\n")
    done = rankport("jobs", "create", "--items", "blank.csv", "--store", "t", "--watch", "--server", address)
    assert done.returncode == 1
    assert "failed; 1 row: 0 encoded, 0 unchanged, 1 bad" in done.stdout
    assert done.stdout.splitlines()[1] == "bad row 2 (a): no text in text"


def test_what_the_server_refuses_is_one_line(address: str) -> None:
    done = rankport("jobs", "create", "--items", "/etc/passwd", "--store", "t", "--server", address)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "rankport: InvalidRequest: items '/etc/passwd' is not below the server's job roots"
    )
    gone = rankport("jobs", "show", "none", "--server", address)
    assert (gone.returncode, gone.stderr) == (
        1,
        "rankport: NotFound: there is no job 'none': see `rankport jobs list`\n",
    )
