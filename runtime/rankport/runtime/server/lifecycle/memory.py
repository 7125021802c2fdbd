"""`Memory`: versions and aliases that outlive the process. Owns when they are written; nothing else writes the file."""

import asyncio
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from rankport.protos.errors import InvalidRequest, Unavailable
from rankport.protos.versions import ModelAlias
from rankport.runtime.server.lifecycle.saved import (
    SavedAlias,
    SavedState,
    SavedVersion,
    read_state,
    write_state,
)


class Memory:
    """Orders of admin calls that hold after a restart. Without a file they hold for this process.

    A change is on disk before it is told to anybody; one that cannot be written raises `Unavailable` and is none. A
    thread waits for the disk, and whoever changes it for that: one change at a time. What could not be had again at a
    start stays in it, until an order says otherwise.
    """

    def __init__(self, path: str | None, *, shared: bool = False) -> None:
        """`shared`: the file is that of several fronts, which take the same orders; their supervisor has the lock."""
        self._shared = shared
        self._path = None if path is None else Path(path)
        self._lock: int | None = None
        self._versions: dict[str, SavedVersion] = {}
        self._aliases: dict[str, ModelAlias] = {}

    def open(self) -> None:
        """Reads the file, which no other server may have. Raises `InvalidRequest` for one that cannot be used."""
        if self._path is None:
            return
        if not self._shared:
            self._lock = locked(self._path)
        state = read_state(self._path)
        self._versions = {saved.model: saved for saved in state.versions}
        self._aliases = {saved.alias: saved.value() for saved in state.aliases}

    def close(self) -> None:
        """Leaves the file to others."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def versions(self) -> Sequence[SavedVersion]:
        """Versions loaded at run time, in the order of their loads."""
        return tuple(self._versions.values())

    @property
    def aliases(self) -> Sequence[ModelAlias]:
        """Aliases."""
        return tuple(self._aliases.values())

    def knows_alias(self, alias: str) -> bool:
        """Says whether an alias is remembered, also one that stands for nothing at present."""
        return alias in self._aliases

    async def keep_version(self, saved: SavedVersion) -> None:
        """Remembers a version."""
        if self._versions.get(saved.model) != saved:
            await self._change(self._versions | {saved.model: saved}, self._aliases)

    async def drop_version(self, model: str) -> SavedVersion | None:
        """Forgets a version, and returns it; None if it was not remembered."""
        known = self._versions.get(model)
        if known is not None:
            others = {name: saved for name, saved in self._versions.items() if name != model}
            await self._change(others, self._aliases)
        return known

    async def keep_alias(self, alias: ModelAlias) -> None:
        """Remembers an alias; forgets one without targets."""
        others = {name: kept for name, kept in self._aliases.items() if name != alias.alias}
        await self._change(self._versions, others | ({alias.alias: alias} if alias.targets else {}))

    async def _change(self, versions: dict[str, SavedVersion], aliases: dict[str, ModelAlias]) -> None:
        if self._path is not None:
            if self._lock is None and not self._shared:
                raise Unavailable("the server is stopping; ask again when it has started")
            saved = [SavedAlias.of(alias) for alias in aliases.values()]
            state = SavedState(versions=list(versions.values()), aliases=saved)
            await asyncio.to_thread(write_state, self._path, state, shared=self._shared)
        self._versions, self._aliases = versions, aliases


def check_lock(path: Path) -> None:
    """Raises `InvalidRequest` for a state whose lock cannot be opened, where there is one; it is left as it is."""
    if _lock_of(path).exists():
        os.close(_opened(path, 0))


def locked(path: Path) -> int:
    """Locks the file beside a state, which stays: the state itself is replaced at each change. Gives the descriptor.

    Raises `InvalidRequest` for one that another server has.
    """
    descriptor = _opened(path, os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise InvalidRequest(
            f"state_file {path} is another server's, which runs: give each server its own"
        ) from None
    return descriptor


def _lock_of(path: Path) -> Path:
    place = Path(os.path.realpath(path))  # one of all links to it
    return place.with_name(f"{place.name}.lock")


def _opened(path: Path, create: int) -> int:
    lock = _lock_of(path)
    try:
        return os.open(lock, os.O_RDWR | create | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise InvalidRequest(
            f"state_file {path}: {lock} cannot be opened: {error.strerror}; give a file in a folder that can be written"
        ) from error
