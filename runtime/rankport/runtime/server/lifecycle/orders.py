"""Orders of whoever administers a server: what each asks for, as plain values."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rankport.protos.versions import AliasTarget, ModelAlias, ModelVersion


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """Order to load a bundle, and what for."""

    path: str
    name: str = ""  # of its manifest
    version: str = ""  # of its manifest
    alias: str = ""  # moved to it once it is ready
    replace: bool = False  # unloads what the alias stood for, unless another one names it


@dataclass(frozen=True, slots=True)
class UnloadOrder:
    """Order to unload a version."""

    model: str


@dataclass(frozen=True, slots=True)
class AliasOrder:
    """Order to have an alias stand for versions."""

    alias: str
    targets: tuple[AliasTarget, ...]


@dataclass(frozen=True, slots=True)
class RollBackOrder:
    """Order to set an alias back."""

    alias: str


AdminOrder = LoadOrder | UnloadOrder | AliasOrder | RollBackOrder
TakeOrder = Callable[[AdminOrder], Awaitable[ModelVersion | ModelAlias]]
"""Does what is ordered, of versions and of aliases; raises as `Lifecycle`."""
JoinPages = Callable[[bytes], bytes]
"""Joins a page of metrics with those of the other fronts. May take a moment."""


@dataclass(frozen=True, slots=True)
class Others:
    """The other fronts of a server, as one of them has them."""

    take: TakeOrder  # by all of them
    join_pages: JoinPages
    live: Callable[[], bool]  # says whether who started them still looks after them, and their engines
