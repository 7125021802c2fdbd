"""`Kind`: a kind of models as the table lists it, and what a loaded model of any kind is to whoever drives it.

Owns the words for what models can do. Who serves binds its methods to a capability, never to a kind.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import ItemColumns
from rankport.protos.types import Item, ModelDescription, OnMissing, Prefix, ScoreResult, Truncation
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest_rules import ManifestRules
from rankport.runtime.config import EngineConfig
from rankport.runtime.store.store import TokenStore

Capability = Literal["scores", "encodes"]
"""Requests that a model answers: `scores` as `ScoringModel`, `encodes` as `EncodingModel`."""


class Model(Protocol):
    """A loaded model. Any thread may call it."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Capabilities: what it answers."""

    @property
    def alive(self) -> bool:
        """False once it is closed, its device lost, or stopped on a bug: it answers nothing any more."""

    def describe(self) -> ModelDescription:
        """Says what it is."""

    def close(self, grace_s: float = 0.0) -> None:
        """Lets accepted requests finish for `grace_s` seconds, fails the rest, frees everything."""


class ScoringModel(Model, Protocol):
    """Model that `scores`."""

    def submit(
        self,
        prefix: Prefix,
        items: Iterable[Item] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
    ) -> "Future[ScoreResult]":
        """Scores items against a prefix; see `Ranker.submit`."""


class EncodingModel(Model, Protocol):
    """Model that `encodes`."""

    def submit(
        self,
        texts: Iterable[str | Sequence[int]] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
    ) -> "Future[NDArray[np.floating]]":
        """Encodes texts as embedding tokens; see `ItemEncoder.submit`."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table. What it loads says its capabilities and describes itself."""

    name: str  # in manifests, flags and replies
    rules: ManifestRules
    load: Callable[[Bundle, EngineConfig, TokenStore | None], Model]
    reads_tokens: Callable[[Bundle], bool] = lambda bundle: (
        False
    )  # whether its items may be keys of a token store
