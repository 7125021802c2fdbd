"""Orders of admin calls that meet: each is done or refused, and none breaks what another one left."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from rankport.protos.errors import BackendError, InvalidRequest, NotFound
from rankport.protos.versions import AliasTarget, ModelState, ModelVersion
from rankport.runtime.kinds.capabilities import Model, ModelCounts
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.lifecycle.lifecycle import Lifecycle
from rankport.runtime.server.lifecycle.loader import NoLoader
from rankport.runtime.server.lifecycle.orders import AdminOrder, AliasOrder, LoadOrder, UnloadOrder
from rankport.runtime.server.models.models import ServedModels
from support.servers.deterministic_models import DeterministicRanker


class _Loader:
    """Loader of jobs@2 alone, whose first close of a model does something else before."""

    store = None
    name, version = "jobs", "2"

    def __init__(self, ranker: DeterministicRanker) -> None:
        self._ranker = ranker
        self.at_close: Callable[[], object] = object

    def open(self, path: str) -> "_Loader":
        return self

    def load(self) -> Model:
        return cast(Model, self._ranker)

    def close(self, model: Model, grace_s: float) -> None:
        before, self.at_close = self.at_close, object
        before()


@pytest.fixture
def rankers() -> Iterator[dict[str, DeterministicRanker]]:
    made = {name: DeterministicRanker(name) for name in ("jobs", "ads", "new")}
    yield made
    for ranker in made.values():
        ranker.close()


@pytest.fixture
def models(rankers: dict[str, DeterministicRanker]) -> ServedModels:
    return ServedModels({name: cast(Model, rankers[name]) for name in ("jobs", "ads")})


def _take(models: ServedModels, *orders: AdminOrder) -> list[Any]:
    """Takes orders at once, and returns what each returned or raised."""

    async def take() -> list[Any]:
        lifecycle = Lifecycle(models, NoLoader(), ServerConfig(grace_s=0.0))
        try:
            return await asyncio.gather(*map(lifecycle.take, orders), return_exceptions=True)
        finally:
            await lifecycle.close()

    return asyncio.run(take())


def test_a_load_that_finds_no_bundle_leaves_the_version_of_that_name_served(models: ServedModels) -> None:
    assert isinstance(_take(models, LoadOrder("none", "jobs", "1"))[0], InvalidRequest)
    assert models.alive() == {"ads": True, "jobs": True}
    assert [version.state for version in models.versions.told()] == ["ready", "ready", "failed"]


def test_of_two_unloads_of_a_version_one_is_refused(
    models: ServedModels, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        unloaded, refused = _take(models, UnloadOrder("jobs@1"), UnloadOrder("jobs@1"))
    assert isinstance(unloaded, ModelVersion)
    assert unloaded.state is ModelState.DRAINING
    assert isinstance(refused, NotFound)
    assert not caplog.records  # nothing was in flight, and without a grace either


def test_an_alias_never_stands_for_a_version_that_is_unloaded_at_once(models: ServedModels) -> None:
    _take(models, UnloadOrder("jobs@1"), AliasOrder("prod", (AliasTarget("jobs@1"),)))
    named = [target.model for alias in models.aliases.all() for target in alias.targets]
    assert all(model in models.versions for model in named)
    assert set(models.alive().values()) == {True}


def test_a_version_that_is_unloaded_while_counters_are_read_has_none(
    models: ServedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = DeterministicRanker.counts

    def unloaded_meanwhile(ranker: DeterministicRanker) -> ModelCounts:
        if "ads@1" in models.versions:
            assert isinstance(_take(models, UnloadOrder("ads@1"))[0], ModelVersion)
        return counts(ranker)

    monkeypatch.setattr(DeterministicRanker, "counts", unloaded_meanwhile)
    assert "jobs@1" in models.counts()
    assert [description.name for description in models.descriptions()] == ["jobs"]


def test_a_version_whose_model_fails_as_it_is_closed_is_gone_all_the_same(
    models: ServedModels, rankers: dict[str, DeterministicRanker]
) -> None:
    loader = _Loader(rankers["new"])

    def fail() -> None:
        raise BackendError("the device is lost")

    async def take() -> ModelVersion:
        lifecycle = Lifecycle(models, loader, ServerConfig(grace_s=0.0))
        await lifecycle.take(LoadOrder("any"))
        loader.at_close = fail
        try:
            with pytest.raises(BackendError, match="the device is lost"):
                await lifecycle.take(UnloadOrder("jobs@2"))
            return cast(ModelVersion, await lifecycle.take(LoadOrder("any")))
        finally:
            await lifecycle.close()

    assert asyncio.run(take()).state is ModelState.READY


def test_what_a_load_replaces_may_be_unloaded_by_another_order_meanwhile(
    models: ServedModels, rankers: dict[str, DeterministicRanker]
) -> None:
    loader = _Loader(rankers["new"])

    async def take() -> object:
        lifecycle = Lifecycle(models, loader, ServerConfig(grace_s=0.0))
        loop = asyncio.get_running_loop()

        def unload_the_other() -> None:
            asyncio.run_coroutine_threadsafe(lifecycle.take(UnloadOrder("ads@1")), loop).result(20.0)

        await lifecycle.take(AliasOrder("prod", (AliasTarget("jobs@1"), AliasTarget("ads@1"))))
        loader.at_close = unload_the_other
        try:
            return await lifecycle.take(LoadOrder("any", alias="prod", replace=True))
        finally:
            await lifecycle.close()

    loaded = asyncio.run(take())
    assert isinstance(loaded, ModelVersion)
    assert loaded.model == "jobs@2"
    assert [version.model for version in models.versions.all_ready()] == ["jobs@2"]
