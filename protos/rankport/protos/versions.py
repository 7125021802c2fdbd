"""Versions of a server's models and the aliases that requests find them by, as server and clients tell them."""

from dataclasses import dataclass
from enum import StrEnum

MODEL_KEY = "x-model"
"""Metadata of gRPC, or header of HTTP, that says which model a request names, for who has not read it yet."""


class ModelState(StrEnum):
    """State of a version."""

    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"  # finishes the requests that it has
    FAILED = "failed"  # never served


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """Version of a model, as far as it is known."""

    name: str
    version: str
    state: ModelState
    reason: str  # why it failed, "" otherwise
    kind: str
    fingerprint: str
    path: str  # of a bundle loaded at run time, "" otherwise
    since_s: float  # Unix time of the state's beginning
    requests: int  # that it answers now

    @property
    def model(self) -> str:
        """Name that means it and no other: NAME@VERSION."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class AliasTarget:
    """Version that an alias stands for, wholly or for a share of the requests."""

    model: str  # NAME@VERSION
    weight: float = 1.0  # its share is this part of the sum


@dataclass(frozen=True, slots=True)
class AliasRecord:
    """Targets that an alias stood for before it was changed."""

    targets: tuple[AliasTarget, ...]
    until_s: float  # Unix time


@dataclass(frozen=True, slots=True)
class ModelAlias:
    """Name that requests use, and the versions that it stands for."""

    alias: str
    targets: tuple[AliasTarget, ...]
    earlier: tuple[AliasRecord, ...] = ()  # the last one first


@dataclass(frozen=True, slots=True)
class ModelVersions:
    """Versions and aliases of a server; versions that failed lately too."""

    versions: tuple[ModelVersion, ...]
    aliases: tuple[ModelAlias, ...]
