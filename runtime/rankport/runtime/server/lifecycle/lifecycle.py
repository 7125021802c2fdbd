"""`Lifecycle`: versions that come and go while a server answers. Owns the order of the steps.

A version is loaded and warmed up before any name finds it, and one that goes finishes its requests before it is closed.
Whatever fails leaves all that is served as it is.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from rankport.protos.errors import InvalidRequest
from rankport.protos.versions import AliasTarget, ModelAlias, ModelState, ModelVersion
from rankport.runtime.kinds.kind import Model
from rankport.runtime.server.aliases import check_alias
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.failures import told
from rankport.runtime.server.lifecycle.roots import no_roots
from rankport.runtime.server.lifecycle.warming import warm
from rankport.runtime.server.models import ServedModels
from rankport.runtime.server.versions import Version

T = TypeVar("T")
_log = logging.getLogger(__name__)
_THREADS = 2  # one version may drain while another one loads


class OpenedBundle(Protocol):
    """Bundle that was found, and is as it says."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def load(self) -> Model:
        """Loads it. Raises as its kind."""


class Loader(Protocol):
    """Way from a path to a model, and back to free memory. Called in threads."""

    def open(self, path: str) -> OpenedBundle:
        """Opens the bundle at a path, strictly. Raises `InvalidRequest` for a path that is none of the server's."""

    def close(self, model: Model, grace_s: float) -> None:
        """Closes a model that requests no longer find, if it is not its caller's."""


class NoLoader:
    """Loader of a server that has none."""

    def open(self, path: str) -> OpenedBundle:
        raise no_roots(path)

    def close(self, model: Model, grace_s: float) -> None:
        """Leaves the model to whoever loaded it."""


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """Order to load a bundle, and what for."""

    path: str
    name: str = ""  # of its manifest
    version: str = ""  # of its manifest
    alias: str = ""  # moved to it once it is ready
    replace: bool = False  # unloads what the alias stood for, unless another one names it


class Lifecycle:
    """Loads, unloads and renames the models of a server. On its event loop."""

    def __init__(self, models: ServedModels, loader: Loader, config: ServerConfig) -> None:
        self._models = models
        self._loader = loader
        self._config = config
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="rankport-load")
        self._running: set[asyncio.Task[Any]] = set()

    async def load(self, order: LoadOrder) -> ModelVersion:
        """Loads a bundle, warms it up, and has the alias name it. Goes on if the wait is cancelled.

        Raises:
            InvalidRequest: the path is none of the server's, or there is a version of that name.
            RankportError: as the loading or its first request; the state of all else is as before.
        """
        return await self._through(self._load(order))

    async def unload(self, model: str) -> ModelVersion:
        """Finishes the requests of a version, for the grace of a stop at most, and closes it. Goes on if cancelled.

        Raises:
            InvalidRequest: an alias names it.
            NotFound: it is not there, or not ready.
        """
        version = self._models.versions.ready(model)
        naming = self._models.aliases.naming(model)
        if naming:
            raise InvalidRequest(
                f"{model} is what alias {', '.join(naming)} stands for: set the alias to another version first"
            )
        return await self._through(self._unload(version))

    def set_alias(self, alias: str, targets: Sequence[AliasTarget]) -> ModelAlias:
        """Has an alias stand for versions, at once. Raises as `ServedModels.set_alias`."""
        changed = self._models.set_alias(alias, targets)
        _log.info("alias %s is %s", alias, _written(changed.targets))
        return changed

    def roll_back(self, alias: str) -> ModelAlias:
        """Sets an alias back by one change. Raises as `ServedModels.roll_back`."""
        changed = self._models.roll_back(alias)
        _log.info("alias %s is back at %s", alias, _written(changed.targets))
        return changed

    def close(self) -> None:
        """Begins nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _load(self, order: LoadOrder) -> ModelVersion:
        if order.replace and not order.alias:
            raise InvalidRequest("replace goes with alias: it unloads what the alias stood for")
        if order.alias:
            check_alias(order.alias)
        try:
            opened = await self._in_thread(lambda: self._loader.open(order.path))
        except Exception as error:
            self._note_failure(Version(order.name or order.path, order.version, order.path), error)
            raise
        name, version = order.name or opened.name, order.version or opened.version
        loading = self._models.versions.add(name, version, order.path)
        try:
            await self._make_ready(loading, opened)
        except Exception as error:
            self._note_failure(loading, error)
            raise
        if order.alias:
            await self._move_alias(order, loading)
        return loading.told()

    async def _make_ready(self, loading: Version, opened: OpenedBundle) -> None:
        model = await self._in_thread(opened.load)
        try:
            loading.take(model)
            loading.enter(ModelState.WARMING)
            await self._in_thread(lambda: warm(model, self._config.warm_up_s))
        except Exception:
            await self._in_thread(lambda: self._loader.close(model, 0.0))
            raise
        loading.enter(ModelState.READY)
        _log.info("%s is ready", loading.model)

    async def _move_alias(self, order: LoadOrder, loaded: Version) -> None:
        before = [target.model for target in self._models.targets(order.alias)]
        try:
            self.set_alias(order.alias, [AliasTarget(loaded.model)])
        except InvalidRequest:
            await self._unload(loaded)
            raise
        if not order.replace:
            return
        for model in before:
            if model != loaded.model and not self._models.aliases.naming(model):
                await self._unload(self._models.versions.ready(model))

    async def _unload(self, version: Version) -> ModelVersion:
        version.enter(ModelState.DRAINING)
        served, grace_s = version.served, self._config.grace_s
        assert served is not None
        if not await served.uses.ended(grace_s):
            _log.warning("%s still answers %d requests, and is closed", version.model, served.uses.count)
        last = version.told()
        await self._in_thread(lambda: self._loader.close(served.model, grace_s))
        self._models.versions.remove(version)
        version.served = None
        _log.info("%s is unloaded", version.model)
        return last

    def _note_failure(self, version: Version, error: Exception) -> None:
        reason = str(told(error))
        self._models.versions.fail(version, reason)
        _log.error("%s was not loaded: %s", version.path, reason)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _through(self, steps: Coroutine[Any, Any, T]) -> T:
        """Takes all steps, also where nobody waits any more."""
        task = asyncio.create_task(steps)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)


def _written(targets: Sequence[AliasTarget]) -> str:
    return ", ".join(f"{target.model} ({target.weight:g})" for target in targets) or "removed"
