"""`rankport models`: what it asks a server for, and how it tells the answer."""

import json
from collections.abc import Iterator

import pytest

from rankport.protos.versions import ModelState, ModelVersion
from rankport.runtime.server.server import Server
from rankport.sdk.cli.output.versions import line_of
from support.cli import rankport
from support.servers.deterministic_models import DeterministicRanker
from support.servers.serving import LOCAL


@pytest.fixture
def address() -> Iterator[str]:
    models = {"jobs": DeterministicRanker(), "people": DeterministicRanker()}
    with Server(models, LOCAL) as server:  # type: ignore[arg-type]
        yield server.address
    for model in models.values():
        model.close()


def _run(address: str, *arguments: str) -> str:
    done = rankport("models", *arguments, "--server", address)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_versions_and_aliases_are_listed_changed_and_set_back(address: str) -> None:
    assert _run(address, "alias", "prod", "jobs@1") == "prod -> jobs@1\n"
    split = _run(address, "alias", "prod", "jobs@1=95", "people@1=5")
    assert split == "prod -> jobs@1 0.95, people@1 0.05, before that 1 other\n"
    assert _run(address, "list").splitlines() == [
        "jobs@1: ready: ranker, fingerprint ffffffffffff, 0 requests now",
        "people@1: ready: ranker, fingerprint ffffffffffff, 0 requests now",
        "prod -> jobs@1 0.95, people@1 0.05, before that 1 other",
    ]
    assert _run(address, "rollback", "prod") == "prod -> jobs@1\n"
    assert _run(address, "unload", "people@1").startswith("people@1: unloaded: ")
    listed = json.loads(_run(address, "list", "--json"))
    assert [(version["name"], version["state"]) for version in listed["versions"]] == [("jobs", "ready")]
    assert listed["aliases"][0]["targets"] == [{"model": "jobs@1", "weight": 1.0}]
    removed = json.loads(_run(address, "alias", "prod", "--remove", "--json"))
    assert removed == {"alias": "prod", "targets": [], "earlier": []}
    _run(address, "alias", "prod", "jobs@1")
    assert _run(address, "alias", "prod", "--remove") == "prod: removed\n"


def test_what_the_server_refuses_is_one_line(address: str) -> None:
    done = rankport("models", "load", "/etc", "--server", address)
    assert done.returncode == 2
    assert done.stderr == (
        "rankport: InvalidRequest: path '/etc': this server loads no bundles while it runs; start it with "
        "--model-root DIRECTORY\n"
    )


def test_a_bundle_that_was_not_found_has_no_version() -> None:
    failed = ModelVersion("jobs.bundle", "", ModelState.FAILED, "no bundle there", "", "", "", 0.0, 0)
    assert line_of(failed) == "jobs.bundle: failed: no bundle there"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["alias", "prod"], "give the versions that it stands for, or --remove"),
        (["alias", "prod", "jobs@1", "--remove"], "or --remove"),
        (["alias", "prod", "jobs@1=x"], "has no number behind '='"),
        (["load", "bundle", "--replace"], "--replace goes with --alias"),
    ],
)
def test_wrong_usage_is_told_without_a_server(arguments: list[str], says: str) -> None:
    done = rankport("models", *arguments)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.replace("│", " ").split())
