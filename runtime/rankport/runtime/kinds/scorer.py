"""`Scorer`: a loaded bundle of any kind that scores. Owns the choice of the kind by the bundle, and no maths."""

import os
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import ExitStack
from types import TracebackType
from typing import Self, cast

from rankport.protos.arguments import checked_timeout_s
from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest
from rankport.protos.features import FeatureColumns
from rankport.protos.processes.own_process import StaysInProcess
from rankport.protos.ranking import WeighingRanks
from rankport.protos.types import (
    Features,
    Item,
    ModelDescription,
    OnMissing,
    Prefix,
    Query,
    ScoreResult,
    Truncation,
)
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.capabilities import Capability, Model, ScoringModel, WeighingModel
from rankport.runtime.kinds.kind import Kind, other_use
from rankport.runtime.kinds.table import KINDS, kind_of, open_bundle
from rankport.runtime.scheduling.futures import result_within
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.opening import given_or_opened


class Scorer(StaysInProcess, WeighingRanks):
    """A loaded bundle that scores, whatever its kind. Any thread may call it; a context manager.

    >>> with Scorer.load("model.bundle") as scorer:
    ...     scorer.rank("nurse", ["hospital nurse", "welder"], top_k=1, return_items=True).items
    """

    def __init__(self, model: ScoringModel, owned: ExitStack) -> None:
        """Takes over a model, and what is closed after it."""
        self._model = model
        self._owned = owned

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | Bundle,
        store: TokenStore | str | os.PathLike[str] | None = None,
        *,
        config: EngineConfig = DEFAULTS,
    ) -> Self:
        """Loads a bundle by its kind. With a `store` items may be keys, where the bundle takes embedding tokens.

        Raises:
            BundleError: the bundle is not what it says.
            InvalidRequest: it does not score; the message says what it does. Or it takes no embedding tokens, and a
                store is given.
            RankportError: as the `load` of its kind.
        """
        return cls.load_of(KINDS, bundle, store, config)

    @classmethod
    def load_of(
        cls,
        kinds: Iterable[Kind],
        bundle: str | os.PathLike[str] | Bundle,
        store: TokenStore | str | os.PathLike[str] | None,
        config: EngineConfig,
    ) -> Self:
        """Loads as `load`, a bundle of one of these kinds."""
        rows = tuple(kinds)
        opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle, rows)
        kind = kind_of(opened, rows)
        with ExitStack() as owned:
            tokens = given_or_opened(store, owned)
            model = kind.load(opened, config, tokens)
            owned.callback(model.close)
            _require_scores(opened, model)
            if tokens is not None and not kind.reads_tokens(opened):
                raise InvalidRequest(f"store: {_said(opened)} takes no embedding tokens: leave the store out")
            return cls(cast(ScoringModel, model), owned.pop_all())

    @property
    def model(self) -> ScoringModel:
        """The model of its kind: a `Ranker`, say."""
        return self._model

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Capabilities of the model."""
        return self._model.capabilities

    def score(
        self,
        prefix: Query,
        items: Iterable[Item] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
        features: Features | FeatureColumns | None = None,
    ) -> ScoreResult:
        """Scores every item against the prefix. Result and errors are those of the model's own `score`.

        Raises `InvalidRequest` too for wide `features` that the model has no use for.
        """
        timeout_s = checked_timeout_s(timeout_s)
        future = self.submit(
            prefix, items, timeout_s, truncation=truncation, on_missing=on_missing, features=features
        )
        return result_within(future, timeout_s)

    def submit(
        self,
        prefix: Query,
        items: Iterable[Item] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
        features: Features | FeatureColumns | None = None,
    ) -> "Future[ScoreResult]":
        """Scores as `score`, at once with a future. Cancelling it drops what is not computed yet."""
        if features is None:
            own = cast(Prefix, prefix)  # a model that takes no other refuses it by name
            return self._model.submit(own, items, timeout_s, truncation=truncation, on_missing=on_missing)
        if "weighs" not in self.capabilities:
            described = self.describe()
            raise InvalidRequest(
                f"features: bundle {described.name!r} of kind {described.kind} takes no wide features: leave them out"
            )
        model = cast(WeighingModel, self._model)
        return model.submit(
            prefix, items, timeout_s, truncation=truncation, on_missing=on_missing, features=features
        )

    def describe(self) -> ModelDescription:
        """Says what the bundle is, and which forms of items it takes."""
        return self._model.describe()

    @property
    def alive(self) -> bool:
        """False once it is closed, its device lost, or stopped on a bug: it answers nothing any more."""
        return self._model.alive

    def close(self, grace_s: float = 0.0) -> None:
        """Lets accepted requests finish for `grace_s` seconds, fails the rest, frees everything."""
        self._model.close(grace_s)
        self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _require_scores(bundle: Bundle, model: Model) -> None:
    if "scores" not in model.capabilities:
        raise InvalidRequest(f"{other_use(bundle, model, 'scores nothing')}, or give another")


def _said(bundle: Bundle) -> str:
    return f"bundle {bundle.manifest.name!r} of kind {bundle.manifest.kind}"
