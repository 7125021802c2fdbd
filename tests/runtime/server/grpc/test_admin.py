"""Versions that come and go while a server answers: no request fails, and nothing bad replaces what is good."""

import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rankport.protos.errors import BackendError, BundleError, InvalidRequest, NotFound
from rankport.protos.kserve import kserve_pb2
from rankport.protos.types import ScoreResult
from rankport.protos.versions import AliasTarget, ModelState
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.capabilities import Model
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.loading import ModelLoader
from rankport.runtime.server.server import Server
from rankport.runtime.store.contract import TokenStore
from rankport.sdk import Client, request_id
from support.servers.deterministic_models import DeterministicEncoder, DeterministicRanker
from support.servers.reference_bundles import (
    REFERENCE_RANKER,
    UNLOADABLE,
    WITHOUT_ANSWER,
    load_reference,
    reference_bundle,
)
from support.servers.serving import LOCAL

PREFIX, ITEMS = "red shoes", ["blue boots", "green", "red"]


@dataclass(frozen=True, slots=True)
class Served:
    """A server of jobs@1 with bundles of two versions below its root, and what each answers in process."""

    client: Client
    address: str
    root: Path
    answers: dict[str, ScoreResult]  # by version

    def version_of(self, result: ScoreResult) -> str:
        """Tells which version answered, by fingerprint and by every score."""
        (version,) = [name for name, own in self.answers.items() if own.fingerprint == result.fingerprint]
        np.testing.assert_array_equal(result.scores, self.answers[version].scores)
        return version


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    paths = {
        version: reference_bundle(tmp_path / "root" / version, "jobs", version, int(version))
        for version in ("1", "2")
    }
    answers = {}
    for version, path in paths.items():
        with load_reference(open_bundle(path)) as ranker:
            answers[version] = ranker.score(PREFIX, ITEMS)
    kinds, roots = [REFERENCE_RANKER], (str(tmp_path / "root"),)
    config = ServerConfig(port=0, grace_s=5.0, model_roots=roots)
    with (
        ModelLoader.opened(None, DEFAULTS, kinds, roots=roots) as loader,
        Server(loader.load_all([str(paths["1"])]), config, loader) as server,
        Client(server.address, timeout_s=20.0) as client,
    ):
        yield Served(client, server.address, tmp_path / "root", answers)


def _states(client: Client) -> dict[str, ModelState]:
    return {version.model: version.state for version in client.admin.versions().versions}


def test_every_answer_under_swaps_is_that_of_one_of_the_two_versions(served: Served) -> None:
    stop, enough = threading.Event(), threading.Semaphore(0)

    def ask(_: int) -> list[str]:
        versions = []
        with Client(served.address, "jobs", timeout_s=20.0, retry=False) as client:
            while not stop.is_set():
                versions.append(served.version_of(client.score(PREFIX, ITEMS)))
                enough.release()
        return versions

    admin = served.client.admin
    with ThreadPoolExecutor(4) as callers:
        asked = [callers.submit(ask, number) for number in range(4)]
        try:
            for version in ("2", "1", "2", "1"):
                for _ in range(12):
                    assert enough.acquire(timeout=20.0)
                loaded = admin.load(version, alias="jobs", replace=True)
                assert (loaded.model, loaded.state) == (f"jobs@{version}", ModelState.READY)
                assert served.version_of(served.client.score(PREFIX, ITEMS)) == version
                assert _states(served.client) == {f"jobs@{version}": ModelState.READY}
        finally:
            stop.set()
        seen = [future.result() for future in asked]
    assert {version for versions in seen for version in versions} == {"1", "2"}


def test_statistics_of_kserve_are_those_of_a_version(served: Served) -> None:
    served.client.admin.load("2")
    request = kserve_pb2.ModelInferRequest(model_name="jobs", model_version="2")
    for name, text in (("prefix", PREFIX), ("items", "blue boots")):
        tensor = request.inputs.add(name=name, datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(text.encode())
    with grpc.insecure_channel(served.address) as channel:
        kserve = "/inference.GRPCInferenceService/"
        channel.unary_unary(f"{kserve}ModelInfer")(request.SerializeToString(), timeout=10)
        told = channel.unary_unary(f"{kserve}ModelStatistics")(b"", timeout=10)
    counted = kserve_pb2.ModelStatisticsResponse.FromString(told).model_stats
    assert {each.version: each.inference_count for each in counted} == {"1": 0, "2": 1}


def test_nothing_keeps_a_model_that_is_unloaded(tmp_path: Path) -> None:
    loaded: list[weakref.ref[Model]] = []

    def load(bundle: Bundle, config: EngineConfig, store: TokenStore | None) -> Model:
        model = REFERENCE_RANKER.load(bundle, config, store)
        loaded.append(weakref.ref(model))
        return model

    paths = [str(reference_bundle(tmp_path / version, "jobs", version, int(version))) for version in "12"]
    kinds, roots = [replace(REFERENCE_RANKER, load=load)], (str(tmp_path),)
    with (
        ModelLoader.opened(None, DEFAULTS, kinds, roots=roots) as loader,
        Server(loader.load_all(paths[:1]), LOCAL, loader) as server,
        Client(server.address, timeout_s=20.0) as client,
    ):
        client.score(PREFIX, ITEMS)
        client.admin.load(paths[1], alias="jobs", replace=True)
        for _ in range(200):  # a thread that has just let go of it may hold it for a moment
            client.score(PREFIX, ITEMS)
            if loaded[0]() is None:
                break
        assert [model() is None for model in loaded] == [True, False]


def test_a_name_means_the_version_loaded_first_until_an_alias_says_otherwise(served: Served) -> None:
    client, admin = served.client, served.client.admin
    loaded = admin.load(str(served.root / "2"))
    assert loaded.fingerprint == served.answers["2"].fingerprint
    assert _states(client) == {"jobs@1": ModelState.READY, "jobs@2": ModelState.READY}
    assert served.version_of(client.score(PREFIX, ITEMS)) == "1"
    with Client(served.address, "jobs@2") as exact:
        assert served.version_of(exact.score(PREFIX, ITEMS)) == "2"

    assert admin.set_alias("jobs", "jobs@2").targets == (AliasTarget("jobs@2"),)
    assert served.version_of(client.score(PREFIX, ITEMS)) == "2"
    assert admin.roll_back("jobs").targets == (AliasTarget("jobs@1"),)
    assert served.version_of(client.score(PREFIX, ITEMS)) == "1"
    admin.remove_alias("jobs")
    admin.unload("jobs@1")
    assert served.version_of(client.score(PREFIX, ITEMS)) == "2"
    with pytest.raises(NotFound, match="no version is named 'jobs@1'; this server has jobs@2"):
        admin.set_alias("prod", "jobs@1")


def test_a_request_id_decides_between_the_shares_of_an_alias(served: Served) -> None:
    admin = served.client.admin
    admin.load("2")
    admin.set_alias("prod", {"jobs@1": 0.5, "jobs@2": 0.5})
    with Client(served.address, "prod", timeout_s=20.0) as client:

        def version(id: str) -> str:
            with request_id(id):
                return served.version_of(client.score(PREFIX, ITEMS))

        ids = [f"id-{number}" for number in range(12)]
        by_id = {id: version(id) for id in ids}
        assert {version(id) == by_id[id] for id in ids} == {True}
        drawn = {served.version_of(client.score(PREFIX, ITEMS)) for _ in range(20)}
        with pytest.raises(InvalidRequest, match="id is 'a b': give 1 to 128 printable"):
            version("a b")
    assert set(by_id.values()) == drawn == {"1", "2"}


def test_a_rollback_to_a_version_that_is_gone_is_refused(served: Served) -> None:
    admin = served.client.admin
    admin.set_alias("prod", "jobs@1")
    admin.load("2", alias="prod", replace=True)
    with pytest.raises(NotFound, match=r"alias .prod. stood for jobs@1: no version is named"):
        admin.roll_back("prod")
    assert served.version_of(served.client.score(PREFIX, ITEMS)) == "2"


def test_a_bad_bundle_never_replaces_a_good_one(served: Served) -> None:
    client, admin = served.client, served.client.admin
    reference_bundle(served.root / "no-device", "jobs", "3", UNLOADABLE)
    reference_bundle(served.root / "nan", "jobs", "4", WITHOUT_ANSWER)
    (reference_bundle(served.root / "cut", "jobs", "5", 5) / "weights.bin").write_bytes(b"")
    for path, error, says in [
        ("no-device", BackendError, "an operator that this device lacks"),
        ("nan", BundleError, "'jobs' fails its first request: the model gave a logit that is not finite"),
        ("cut", BundleError, "weights.bin"),
    ]:
        with pytest.raises(error, match=says):
            admin.load(path, alias="jobs", replace=True)
        assert served.version_of(client.score(PREFIX, ITEMS)) == "1"
    versions = client.admin.versions().versions
    assert [(version.path, version.state) for version in versions] == [
        ("", ModelState.READY),
        ("no-device", ModelState.FAILED),
        ("nan", ModelState.FAILED),
        ("cut", ModelState.FAILED),
    ]
    assert "operator that this device lacks" in versions[1].reason
    reference_bundle(served.root / "mended", "jobs", "4", 4)
    assert admin.load("mended").model == "jobs@4"


def test_only_bundles_below_a_root_are_loaded(served: Served, tmp_path: Path) -> None:
    outside = reference_bundle(tmp_path / "outside", "jobs", "9", 9)
    (served.root / "link").symlink_to(outside)
    for path in (str(outside), "../outside", "link", "absent", "", "a\0b", "a" * 5000):
        with pytest.raises(InvalidRequest, match="path"):
            served.client.admin.load(path)


def test_what_may_not_be_changed_is_refused(served: Served) -> None:
    admin = served.client.admin
    with pytest.raises(InvalidRequest, match="jobs@1 is ready already: give another version or name"):
        admin.load("1")
    for given in ({"name": "a\nb"}, {"version": "1\n2"}, {"alias": "a\nb"}):
        with pytest.raises(InvalidRequest, match="give characters of a line"):
            admin.load("2", **given)
    with pytest.raises(InvalidRequest, match="replace goes with alias"):
        admin.load("2", replace=True)
    admin.set_alias("prod", "jobs@1")
    with pytest.raises(InvalidRequest, match="jobs@1 is what alias prod stands for"):
        admin.unload("jobs@1")
    with pytest.raises(NotFound, match="no version is named 'jobs'"):
        admin.unload("jobs")
    with pytest.raises(InvalidRequest, match="is to stand for nothing: remove_alias does that"):
        admin.set_alias("prod", {})


def test_an_alias_is_not_moved_to_what_does_something_else(served: Served) -> None:
    admin = served.client.admin
    with pytest.raises(InvalidRequest, match="alias is 'a@b'"):
        admin.load("2", alias="a@b")
    encoder = DeterministicEncoder()
    models = {"jobs": DeterministicRanker(), "encoder": encoder}
    with Server(models, LOCAL) as server, Client(server.address) as client:  # type: ignore[arg-type]
        for to in ("encoder@1", {"jobs@1": 1.0, "encoder@1": 1.0}):
            with pytest.raises(
                InvalidRequest, match=r"does not do what 'jobs' does|not answer the same requests"
            ):
                client.admin.set_alias("jobs", to)
        assert client.score("query", ["a"]).scores.shape == (1,)
        assert client.admin.versions().aliases == ()
    for model in models.values():
        model.close()


def test_health_follows_names_that_come_and_go(served: Served) -> None:
    with grpc.insecure_channel(served.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service="prod"), timeout=20.0
        )
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        served.client.admin.set_alias("prod", "jobs@1")
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        served.client.admin.remove_alias("prod")
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()


def test_an_unload_waits_for_the_requests_of_the_version_and_takes_no_new_one() -> None:
    rankers = {"a": DeterministicRanker("a"), "b": DeterministicRanker("b")}
    with Server(rankers, LOCAL) as server, Client(server.address, "a", timeout_s=20.0) as client:  # type: ignore[arg-type]
        rankers["a"].worker.gate.clear()
        pending = client.submit("query", ["item"])
        assert rankers["a"].worker.arrived.acquire(timeout=20.0)
        with ThreadPoolExecutor(1) as other:
            unloading = other.submit(client.admin.unload, "a@1")
            while (state := _states(client)["a@1"]) is not ModelState.DRAINING:
                assert state is ModelState.READY
            with pytest.raises(NotFound, match="no model that scores is named 'a'; this server has b"):
                client.score("query", ["item"])
            assert client.admin.versions().versions[0].requests == 1
            assert not unloading.done()
            rankers["a"].worker.gate.set()
            assert pending.result(20.0).scores.shape == (1,)
            assert unloading.result(20.0).state is ModelState.DRAINING
        assert _states(client) == {"b@1": ModelState.READY}
        with pytest.raises(
            InvalidRequest, match="loads no bundles while it runs; start it with --model-root"
        ):
            client.admin.load("x")
    for ranker in rankers.values():
        ranker.close()
