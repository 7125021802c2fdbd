"""Aliases and bundles loaded at run time outlive the process; what cannot be had again stops nothing else."""

import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, NotFound, Unavailable
from rankport.protos.types import ScoreResult
from rankport.protos.versions import AliasTarget, ModelState
from rankport.runtime.config import DEFAULTS
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.lifecycle.memory import Memory
from rankport.runtime.server.lifecycle.saved import SavedState, SavedVersion, read_state, write_state
from rankport.runtime.server.loading import ModelLoader
from rankport.runtime.server.server import Server
from rankport.sdk import Client
from rankport.sdk.model_admin import ModelAdmin
from support.file_limits import files_of_at_most
from support.servers.reference_bundles import REFERENCE_RANKER, load_reference, reference_bundle

PREFIX, ITEMS = "red shoes", ["blue boots", "green", "red"]


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs."""

    admin: ModelAdmin
    address: str

    def scored(self, model: str) -> ScoreResult:
        """Scores by the name of a model, "" for the only one."""
        with Client(self.address, model, timeout_s=20.0) as client:
            return client.score(PREFIX, ITEMS)


@dataclass(frozen=True, slots=True)
class Place:
    """Bundles of versions 1 to 3, and a file for the state."""

    root: Path
    state: Path

    @property
    def written(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.state.read_text())
        return content

    @contextmanager
    def served(self, *bundles: str, state: Path | None = None) -> "Iterator[Running]":
        """Starts a server of these bundles, of version 1 alone by default, and of what the state says."""
        kinds, roots = [REFERENCE_RANKER], (str(self.root),)
        config = ServerConfig(port=0, grace_s=5.0, model_roots=roots, state_file=str(state or self.state))
        with (
            ModelLoader.opened(None, DEFAULTS, kinds, roots=roots) as loader,
            Server(loader.load_all(bundles or [str(self.root / "1")]), config, loader) as server,
            Client(server.address, timeout_s=20.0) as client,
        ):
            yield Running(client.admin, server.address)

    def answer(self, version: str) -> ScoreResult:
        """Scores in process."""
        with load_reference(open_bundle(self.root / version)) as ranker:
            return ranker.score(PREFIX, ITEMS)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for version in "123":
        reference_bundle(tmp_path / "root" / version, "jobs", version, int(version))
    return Place(tmp_path / "root", tmp_path / "state.json")


def models(running: Running) -> dict[str, ModelState]:
    return {version.model: version.state for version in running.admin.versions().versions}


def test_a_server_that_starts_again_answers_as_the_one_before(place: Place) -> None:
    with place.served() as running:
        running.admin.load("2", alias="prod")
        running.admin.load("3")
        running.admin.set_alias("prod", {"jobs@2": 3.0, "jobs@3": 1.0})
        running.admin.set_alias("prod", "jobs@3")
        running.admin.set_alias("gone", "jobs@1")
        running.admin.remove_alias("gone")
        before = running.admin.versions()
    with place.served() as running:
        after = running.admin.versions()
        assert after.aliases == before.aliases
        assert [(each.model, each.path, each.fingerprint) for each in after.versions] == [
            (each.model, each.path, each.fingerprint) for each in before.versions
        ]
        result = running.scored("prod")
        np.testing.assert_array_equal(result.scores, place.answer("3").scores)
        rolled_back = running.admin.roll_back("prod")
        assert rolled_back.targets == (AliasTarget("jobs@2", 3.0), AliasTarget("jobs@3", 1.0))
        running.admin.set_alias("prod", "jobs@1")
        running.admin.unload("jobs@3")
    with place.served() as running:
        assert models(running) == {"jobs@1": ModelState.READY, "jobs@2": ModelState.READY}
        assert running.admin.versions().aliases[0].targets == (AliasTarget("jobs@1"),)


def test_a_bundle_of_the_state_that_is_bad_stops_no_other(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    with place.served() as running:
        running.admin.load("2", alias="prod")
        running.admin.load("3", alias="next")
        running.admin.set_alias("both", {"jobs@1": 9.0, "jobs@2": 1.0})
    before = place.written
    (place.root / "2" / "weights.bin").write_bytes(b"")
    with caplog.at_level(logging.ERROR), place.served() as running:
        assert models(running) == {
            "jobs@1": ModelState.READY,
            "jobs@3": ModelState.READY,
            "jobs@2": ModelState.FAILED,
        }
        aliases = {alias.alias: alias.targets for alias in running.admin.versions().aliases}
        assert aliases == {"next": (AliasTarget("jobs@3"),), "both": (AliasTarget("jobs@1", 9.0),)}
        with pytest.raises(NotFound, match="'prod'"):
            running.scored("prod")
    assert (
        "alias prod, which was jobs@2 (1), is not set: no version that alias 'prod' stands for" in caplog.text
    )
    assert "alias both is only jobs@1 (9)" in caplog.text
    assert place.written == before  # for a start at which it can be had
    with place.served() as running:
        assert running.admin.unload("jobs@2").state is ModelState.FAILED
        assert "jobs@2" not in models(running)
        running.admin.remove_alias("prod")
    assert [saved["version"] for saved in place.written["versions"]] == ["3"]
    assert [saved["alias"] for saved in place.written["aliases"]] == ["next", "both"]


def test_another_bundle_in_the_place_of_one_is_not_taken_for_it(place: Place) -> None:
    with place.served() as running:
        running.admin.load("2", alias="prod")
    shutil.rmtree(place.root / "2")
    reference_bundle(place.root / "2", "jobs", "2", 7)
    with place.served() as running:
        (failed,) = [each for each in running.admin.versions().versions if each.model == "jobs@2"]
        assert failed.state is ModelState.FAILED
        assert "when it was loaded: it is another model; load it again if it is meant" in failed.reason
        assert running.admin.load("2", alias="prod").state is ModelState.READY
        for _ in range(2):
            with pytest.raises(InvalidRequest, match="put the bundle there"):
                running.admin.load("none")
        told = [(each.model, each.state.value) for each in running.admin.versions().versions]
        assert told == [("jobs@1", "ready"), ("jobs@2", "ready"), ("none@", "failed")]
    with place.served() as running:
        assert models(running)["jobs@2"] is ModelState.READY


def test_bundles_of_the_settings_go_before_those_of_the_state(place: Place) -> None:
    with place.served() as running:
        running.admin.load("2", name="jobs", version="1b", alias="jobs", replace=True)
        assert models(running) == {"jobs@1b": ModelState.READY}
    with place.served() as running:
        assert models(running) == {"jobs@1": ModelState.READY, "jobs@1b": ModelState.READY}
        result = running.scored("")
        np.testing.assert_array_equal(result.scores, place.answer("2").scores)
        running.admin.load("2")
    with place.served(str(place.root / "2")) as running:
        assert {each.model: each.path for each in running.admin.versions().versions} == {
            "jobs@2": "",
            "jobs@1b": "2",
        }
    assert [saved["version"] for saved in place.written["versions"]] == ["1b"]


def test_a_change_that_cannot_be_written_is_none(place: Place) -> None:
    state = place.root.parent / "folder" / "state.json"
    state.parent.mkdir()
    with place.served(state=state) as running:
        running.admin.set_alias("prod", "jobs@1")
        (state.parent / ".state.json.writing").mkdir()
        for change in (
            lambda: running.admin.set_alias("prod", {"jobs@1": 2.0}),
            lambda: running.admin.remove_alias("prod"),
            lambda: running.admin.load("2"),
        ):
            with pytest.raises(
                Unavailable, match=r"state.json cannot be written: Is a directory; nothing is"
            ):
                change()
        told = running.admin.versions()
        assert [alias.targets for alias in told.aliases] == [(AliasTarget("jobs@1"),)]
        assert models(running) == {"jobs@1": ModelState.READY, "jobs@2": ModelState.FAILED}


def test_requests_are_answered_while_a_change_waits_for_the_disk(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, answered, waits = threading.Event(), threading.Event(), list[bool]()

    def slow_sync(descriptor: int) -> None:
        begun.set()
        waits.append(answered.wait(10.0))  # for the request, and in vain where that waits for it

    with place.served() as running, ThreadPoolExecutor() as threads:
        admin = running.admin
        monkeypatch.setattr(os, "fsync", slow_sync)
        for change in (
            lambda: admin.set_alias("prod", "jobs@1"),
            lambda: admin.load("2"),
            lambda: admin.set_alias("prod", "jobs@2"),
            lambda: admin.roll_back("prod"),
            lambda: admin.unload("jobs@2"),
        ):
            begun.clear()
            answered.clear()
            before = admin.versions()
            changing = threads.submit(change)
            assert begun.wait(10.0)
            running.scored("jobs@1")
            told = admin.versions()
            answered.set()
            changing.result(10.0)
            assert told.aliases == before.aliases
            assert [each.state for each in before.versions] == [
                each.state for each in told.versions if each.state is not ModelState.WARMING
            ]
    assert all(waits)


def test_a_change_outlives_the_end_of_the_machine_as_far_as_the_disk_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    write_state(tmp_path / "state.json", SavedState())
    assert synced == [str(tmp_path / ".state.json.writing"), str(tmp_path)]


def test_a_disk_that_is_full_keeps_nothing_of_what_it_did_not_take(tmp_path: Path) -> None:
    many = SavedState(
        versions=[SavedVersion(name="a", version=f"{each}", path="a", fingerprint="f") for each in range(99)]
    )
    write_state(tmp_path / "state.json", SavedState())
    with files_of_at_most(4096), pytest.raises(Unavailable, match=r"state.json cannot be written: File too"):
        write_state(tmp_path / "state.json", many)
    assert os.listdir(tmp_path) == ["state.json"]
    assert read_state(tmp_path / "state.json") == SavedState()


def test_a_load_is_done_though_what_it_replaces_cannot_be_forgotten(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with place.served() as running:
        running.admin.load("2", alias="prod")

        def full(memory: Memory, model: str) -> None:
            raise Unavailable("state_file cannot be written: No space left on device")

        monkeypatch.setattr(Memory, "drop_version", full)
        assert running.admin.load("3", alias="prod", replace=True).state is ModelState.READY
        assert "jobs@2, which jobs@3 replaces, is not unloaded in order: state_file cannot" in caplog.text
        assert running.admin.versions().aliases[0].targets == (AliasTarget("jobs@3"),)
        assert models(running)["jobs@2"] is ModelState.READY


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not JSON in UTF-8"),
        ("[]", "must be a JSON object"),
        ('{"format_version": 2}', r"format_version: Input should be 1, got 2"),
        ('{"format": "x"}', "format: Input should be 'rankport-state', got 'x'"),
        ('{"versions": [], "versions": []}', "key 'versions' is given twice"),
        ('{"models": []}', "models: unknown key"),
        ('{"versions": [{"name": "a", "version": "1", "path": "a"}]}', r"versions\[0\].fingerprint: missing"),
        ('{"aliases": [{"alias": "a", "targets": [], "earlier": []}]}', r"aliases\[0\].targets: List should"),
        (
            '{"aliases": [{"alias": "a@b", "targets": [{"model": "a@1", "weight": 1.0}], "earlier": []}]}',
            "alias is 'a@b'",
        ),
        (
            '{"aliases": [{"alias": "a", "targets": [{"model": "a@1", "weight": -1.0}], "earlier": []}]}',
            "the weight of 'a@1' is -1.0: it must be positive",
        ),
    ],
)
def test_a_state_that_breaks_a_rule_keeps_the_server_from_starting(
    place: Place, content: str, says: str
) -> None:
    place.state.write_text(content)
    with (
        pytest.raises(InvalidRequest, match=rf"state_file .*state.json: .*{says}.*; mend it"),
        place.served(),
    ):
        pass
    assert place.state.read_text() == content


def test_a_state_has_one_server(place: Place) -> None:
    with place.served(), pytest.raises(InvalidRequest, match="is another server's"), place.served():
        pass
    with place.served() as running:
        assert models(running) == {"jobs@1": ModelState.READY}
    link = place.root.parent / "link.json"
    link.symlink_to(place.state)
    with place.served(state=link) as running:
        running.admin.set_alias("prod", "jobs@1")
        with pytest.raises(InvalidRequest, match="is another server's"), place.served():
            pass
    assert link.is_symlink()
    assert [saved["alias"] for saved in place.written["aliases"]] == ["prod"]
    absent = place.root / "absent" / "state.json"
    with pytest.raises(InvalidRequest, match="cannot be opened: No such file"), place.served(state=absent):
        pass
