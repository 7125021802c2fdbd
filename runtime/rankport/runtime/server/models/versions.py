"""Versions of models: what each is doing, and the requests that it answers. Lives on the server's event loop."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from rankport.protos.errors import InvalidRequest, NotFound, Overloaded
from rankport.protos.priorities import Priority
from rankport.protos.types import ModelDescription
from rankport.protos.versions import ModelState, ModelVersion
from rankport.runtime.kinds.capabilities import Capability, Model
from rankport.runtime.server.observing.call import current_call

M = TypeVar("M", bound=Model, covariant=True)
_FAILED_KEPT = 16


class Uses:
    """Requests that a model answers now."""

    def __init__(self) -> None:
        self.count = 0
        self._none = asyncio.Event()
        self._none.set()

    def begin(self) -> None:
        """Notes a request more."""
        self.count += 1
        self._none.clear()

    def end(self) -> None:
        """Notes a request less."""
        self.count -= 1
        if not self.count:
            self._none.set()

    async def ended(self, timeout_s: float) -> bool:
        """Waits until there is none, for so long at most. True if so."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._none.wait(), timeout_s)
        return not self.count


@dataclass(frozen=True, slots=True)
class Served(Generic[M]):
    """Model and its description under the name it is served by. As a context it is in use, and is not closed."""

    model: M
    description: ModelDescription
    uses: Uses = field(default_factory=Uses)

    def __enter__(self) -> Self:
        self.uses.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.uses.end()


class Version:
    """Version of a model, from the moment it is asked for."""

    def __init__(self, name: str, version: str, path: str = "") -> None:
        self.name, self.version, self.path = name, version, path
        self.served: Served[Any] | None = None
        self.state = ModelState.LOADING
        self._since_s = time.time()

    @property
    def model(self) -> str:
        """Name that means it and no other."""
        return f"{self.name}@{self.version}"

    def enter(self, state: ModelState) -> None:
        """Notes what it does from now on."""
        self.state, self._since_s = state, time.time()

    def take(self, model: Model) -> Served[Any]:
        """Takes the model, once it is loaded."""
        described = replace(model.describe(), name=self.name, version=self.version)
        self.served = Served(model, described)
        return self.served

    def told(self, reason: str = "") -> ModelVersion:
        """Says what it is, as far as that is known."""
        description = self.served.description if self.served else None
        return ModelVersion(
            name=self.name,
            version=self.version,
            state=self.state,
            reason=reason,
            kind=description.kind if description else "",
            fingerprint=description.fingerprint if description else "",
            path=self.path,
            since_s=self._since_s,
            requests=self.served.uses.count if self.served else 0,
        )


class Versions:
    """Versions of a server, in the order in which they were asked for."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        """Takes models that are ready, by name. Raises `InvalidRequest` for a name that is none."""
        self._all: dict[str, Version] = {}
        self._failed: deque[ModelVersion] = deque(maxlen=_FAILED_KEPT)
        for name, model in models.items():
            version = self.add(name, model.describe().version)
            version.take(model)
            version.enter(ModelState.READY)

    def add(self, name: str, version: str, path: str = "") -> Version:
        """Adds a version that is to be loaded. Raises `InvalidRequest` if there is one, or for a name that is none."""
        if not name or "@" in name:
            raise InvalidRequest(f'name is {name!r}: give one without "@", which its version stands behind')
        if not (name + version).isprintable():
            raise InvalidRequest(f"name is {name!r}, version {version!r}: give characters of a line")
        added = Version(name, version, path)
        there = self._all.get(added.model)
        if there is not None:
            raise InvalidRequest(f"{added.model} is {there.state} already: give another version or name")
        self._all[added.model] = added
        return added

    def __contains__(self, model: object) -> bool:
        return model in self._all

    def remove(self, version: Version) -> None:
        """Forgets a version."""
        del self._all[version.model]

    def fail(self, version: Version, reason: str) -> None:
        """Remembers that a version was not loaded, and why; of the same one, or the same path, the last time alone."""
        if self._all.get(version.model) is version:  # and no other of that name
            del self._all[version.model]
        version.enter(ModelState.FAILED)
        self.forget_failed(version.model, version.path)
        self._failed.append(version.told(reason))

    def forget_failed(self, model: str, path: str = "") -> None:
        """Forgets that a version, or what is at a path, was not loaded."""
        left = [each for each in self._failed if each.model != model and (not path or each.path != path)]
        self._failed = deque(left, maxlen=_FAILED_KEPT)

    def ready(self, model: str) -> Version:
        """Finds the version that NAME@VERSION means. Raises `NotFound` if it is not there, or not ready."""
        version = self._all.get(model)
        if version is None:
            raise NotFound(f"no version is named {model!r}; this server has {', '.join(self._all) or 'none'}")
        if version.state is not ModelState.READY:
            raise NotFound(f"{model} is {version.state}: it answers nothing")
        return version

    def of_name(self, name: str) -> list[Version]:
        """Lists the versions of a name that are ready, the first one first."""
        return [version for version in self.all_ready() if version.name == name]

    def all_ready(self) -> list[Version]:
        """Lists the versions that are ready."""
        return [version for version in list(self._all.values()) if version.state is ModelState.READY]

    def told(self) -> tuple[ModelVersion, ...]:
        """Describes all, those that failed lately last."""
        return (*(version.told() for version in list(self._all.values())), *self._failed)


def able(version: Version, capability: Capability) -> bool:
    """Says whether a version that is ready has a capability."""
    return version.served is not None and capability in version.served.model.capabilities


def check_room(versions: Sequence[Version], timeout_s: float | None, priority: Priority) -> None:
    """Raises `Overloaded` where all of some versions would refuse any request like those of late; never for none.

    The call is then of the version, where there is one alone.
    """
    refusal: Overloaded | None = None
    for version in versions:
        assert version.served is not None, "ready versions have a model"
        try:
            version.served.model.check_room(timeout_s, priority)
        except Overloaded as error:
            refusal = error
        else:
            return
    if refusal is not None:
        if len(versions) == 1 and (call := current_call()) is not None:
            call.model = versions[0].model
        raise refusal
