"""`Lifecycle`: versions that come and go while a server answers. Owns the order of the steps.

A version is loaded and warmed up before any name finds it, and one that goes finishes its requests before it is closed.
Whatever fails leaves all that is served as it is.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from rankport.protos.errors import BundleError, InvalidRequest, NotFound, RankportError
from rankport.protos.versions import AliasTarget, ModelAlias, ModelState, ModelVersion
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.failures import told
from rankport.runtime.server.lifecycle.alias_changes import AliasChanges
from rankport.runtime.server.lifecycle.load_threads import LoadThreads
from rankport.runtime.server.lifecycle.loader import Loader, OpenedBundle
from rankport.runtime.server.lifecycle.memory import Memory
from rankport.runtime.server.lifecycle.orders import AdminOrder, AliasOrder, LoadOrder, UnloadOrder
from rankport.runtime.server.lifecycle.saved import SavedVersion
from rankport.runtime.server.lifecycle.warming import warm
from rankport.runtime.server.models.aliases import check_alias
from rankport.runtime.server.models.models import ServedModels
from rankport.runtime.server.models.versions import Version

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Lifecycle:
    """Loads, unloads and renames the models of a server. On its event loop, which no disk holds up.

    What is looked at, written to the state file and then done is one step: no other change comes between.
    """

    def __init__(
        self, models: ServedModels, loader: Loader, config: ServerConfig, gone: Callable[[str], object] = str
    ) -> None:
        """`gone` is told each version that is unloaded, by the name that means it alone."""
        self._models, self._gone = models, gone
        self._changes = AliasChanges(models)
        self._loader = loader
        self._config = config
        self._threads = LoadThreads()
        self._running: set[asyncio.Task[Any]] = set()
        self._changing = asyncio.Lock()
        self._memory = Memory(config.state_file, shared=config.is_front)

    async def restore(self) -> None:
        """Loads again what the state file has, and sets its aliases. What cannot be had is told by the log alone.

        Raises `InvalidRequest` for a file that cannot be used.
        """
        self._memory.open()
        for saved in self._memory.versions:
            await self._restore_version(saved)
        for alias in self._memory.aliases:
            self._restore_alias(alias)

    async def take(self, order: AdminOrder) -> ModelVersion | ModelAlias:
        """Does what is ordered. Raises as `load`, `unload`, `set_alias` and `roll_back`."""
        match order:
            case LoadOrder():
                return await self.load(order)
            case UnloadOrder(model):
                return await self.unload(model)
            case AliasOrder(alias, targets):
                return await self.set_alias(alias, targets)
            case _:
                return await self.roll_back(order.alias)

    async def load(self, order: LoadOrder) -> ModelVersion:
        """Loads a bundle, warms it up, and has the alias name it. Goes on if the wait is cancelled.

        Raises:
            InvalidRequest: the path is none of the server's, or there is a version of that name.
            Unavailable: the server stops.
            RankportError: as the loading or its first request; the state of all else is as before.
        """
        return await self._through(self._load(order))

    async def unload(self, model: str) -> ModelVersion:
        """Finishes the requests of a version, for the grace of a stop at most, and closes it. Goes on if cancelled.

        Raises:
            InvalidRequest: an alias names it.
            NotFound: it is not there, or not ready.
            Unavailable: the state file cannot be written.
        """
        return await self._through(self._unload(model))

    async def set_alias(self, alias: str, targets: Sequence[AliasTarget]) -> ModelAlias:
        """Has an alias stand for versions, at once. Raises as `AliasChanges.set` and `Memory`."""
        return await self._through(self._set_alias(alias, targets))

    async def roll_back(self, alias: str) -> ModelAlias:
        """Sets an alias back by one change. Raises as `AliasChanges.roll_back` and `Memory`."""
        changed = await self._through(self._kept(alias, lambda: self._changes.roll_back(alias)))
        _log.info("alias %s is back at %s", alias, _written(changed.targets))
        return changed

    def stop(self) -> None:
        """Breaks off loads, also those that come: a model that nobody will ask is worth no wait."""
        self._threads.stop()

    async def close(self) -> None:
        """Begins nothing more, once the change that is being written is."""
        async with self._changing:
            self._memory.close()
        self._threads.close()

    async def _load(self, order: LoadOrder) -> ModelVersion:
        if order.replace and not order.alias:
            raise InvalidRequest("replace goes with alias: it unloads what the alias stood for")
        if order.alias:
            check_alias(order.alias)
        loaded = await self._bring(order.path, order.name, order.version)
        if order.alias:
            await self._move_alias(order, loaded)
        return loaded.told()

    async def _bring(self, path: str, name: str, version: str, fingerprint: str = "") -> Version:
        """Loads a bundle, which has a certain fingerprint if one is given, warms it up and remembers it."""
        try:
            opened = await self._threads.load(lambda: self._loader.open(path))
        except Exception as error:
            self._note_failure(Version(name or path, version, path), error)
            raise
        loading = self._models.versions.add(name or opened.name, version or opened.version, path)
        try:
            await self._make_ready(loading, opened, fingerprint)
        except Exception as error:
            self._note_failure(loading, error)
            raise
        return loading

    async def _make_ready(self, loading: Version, opened: OpenedBundle, fingerprint: str) -> None:
        model = await self._threads.load(opened.load)
        try:
            own = loading.take(model).description.fingerprint
            _check_fingerprint(loading.path, own, fingerprint)
            loading.enter(ModelState.WARMING)
            await self._threads.load(lambda: warm(model, self._config.warm_up_s))
            name, version, path = loading.name, loading.version, loading.path
            async with self._changing:
                await self._memory.keep_version(
                    SavedVersion(name=name, version=version, path=path, fingerprint=own)
                )
        except Exception:
            await self._threads.run(lambda: self._loader.close(model, 0.0))
            raise
        loading.enter(ModelState.READY)
        self._models.versions.forget_failed(loading.model, loading.path)
        _log.info("%s is ready", loading.model)

    async def _move_alias(self, order: LoadOrder, loaded: Version) -> None:
        before = [target.model for target in self._models.targets(order.alias)]
        try:
            await self._set_alias(order.alias, [AliasTarget(loaded.model)])
        except RankportError:
            with suppress(InvalidRequest, NotFound):  # another order has it by now
                await self._unload(loaded.model)
            raise
        for model in before if order.replace else ():
            ready = {version.model for version in self._models.versions.all_ready()}
            if model in ready and model != loaded.model and not self._models.aliases.naming(model):
                await self._unload_replaced(model, loaded)

    async def _unload_replaced(self, model: str, by: Version) -> None:
        """Unloads a version; a failure is logged alone: what was asked for is done, by all fronts."""
        try:
            await self._unload(model)
        except RankportError as error:
            _log.error("%s, which %s replaces, is not unloaded in order: %s", model, by.model, error)

    async def _unload(self, model: str) -> ModelVersion:
        async with self._changing:
            there = model in self._models.versions
            if not there and (saved := await self._memory.drop_version(model)) is not None:
                self._models.versions.forget_failed(model)
                return _never_ready(saved)
            version = self._models.versions.ready(model)
            if naming := self._models.aliases.naming(model):
                raise InvalidRequest(
                    f"{model} is what alias {', '.join(naming)} stands for: set the alias to another version first"
                )
            await self._memory.drop_version(model)
            version.enter(ModelState.DRAINING)
        served, grace_s = version.served, self._config.grace_s
        assert served is not None
        if not await served.uses.ended(grace_s):
            _log.warning("%s still answers %d requests, and is closed", version.model, served.uses.count)
        last = version.told()
        try:
            await self._threads.run(lambda: self._loader.close(served.model, grace_s))
        finally:  # a device that is lost, say: no request finds it any more, and its name is free
            self._models.versions.remove(version)
            version.served = None
            self._gone(version.model)
        _log.info("%s is unloaded", version.model)
        return last

    async def _restore_version(self, saved: SavedVersion) -> None:
        if saved.model in self._models.versions:
            _log.info("%s is a bundle of the settings, not %s any more", saved.model, saved.path)
            await self._memory.drop_version(saved.model)
            return
        with suppress(Exception):  # noted with its reason, and told by `told`
            await self._bring(saved.path, saved.name, saved.version, saved.fingerprint)

    def _restore_alias(self, saved: ModelAlias) -> None:
        try:
            alias = self._changes.restore(saved)
        except RankportError as error:
            _log.error("alias %s, which was %s, is not set: %s", saved.alias, _written(saved.targets), error)
            return
        if alias.targets != saved.targets:
            _log.error("alias %s is only %s", alias.alias, _written(alias.targets))

    async def _set_alias(self, alias: str, targets: Sequence[AliasTarget]) -> ModelAlias:
        changed = await self._kept(alias, lambda: self._changed(alias, targets))
        _log.info("alias %s is %s", alias, _written(changed.targets))
        return changed

    def _changed(self, alias: str, targets: Sequence[AliasTarget]) -> ModelAlias:
        if not targets and self._models.aliases.get(alias) is None and self._memory.knows_alias(alias):
            return ModelAlias(alias, ())  # it stood for nothing since the start
        return self._changes.set(alias, targets)

    async def _kept(self, alias: str, change: Callable[[], ModelAlias]) -> ModelAlias:
        """Changes an alias once it is remembered: until then, and where that fails, it stays as it was."""
        aliases = self._models.aliases
        async with self._changing:
            before, changed = aliases.get(alias), change()
            aliases.put(alias, before)
            await self._memory.keep_alias(changed)
            aliases.put(alias, changed if changed.targets else None)
        return changed

    def _note_failure(self, version: Version, error: Exception) -> None:
        reason = str(told(error))
        self._models.versions.fail(version, reason)
        _log.error("%s was not loaded: %s", version.path, reason)

    async def _through(self, steps: Coroutine[Any, Any, T]) -> T:
        """Takes all steps, also where nobody waits any more."""
        task = asyncio.create_task(steps)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)


def _never_ready(saved: SavedVersion) -> ModelVersion:
    """Tells a version that was to be had again and could not."""
    version = Version(saved.name, saved.version, saved.path)
    version.enter(ModelState.FAILED)
    return version.told("it could not be loaded at the start, and is forgotten")


def _check_fingerprint(path: str, own: str, saved: str) -> None:
    if saved and own != saved:
        raise BundleError(
            f"bundle {path!r} has fingerprint {own[:12]}, it had {saved[:12]} when it was loaded: it is another model; "
            "load it again if it is meant"
        )


def _written(targets: Sequence[AliasTarget]) -> str:
    return ", ".join(f"{target.model} ({target.weight:g})" for target in targets) or "removed"
