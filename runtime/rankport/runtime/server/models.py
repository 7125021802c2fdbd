"""Models of a server by name. Does not own them: who loaded them closes them."""

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.types import ModelDescription, Prefix, ScoreResult
from rankport.protos.wire import ScoreQuery
from rankport.runtime.kinds.kind import (
    Capability,
    ClassifyingModel,
    EncodingModel,
    Model,
    ScoringModel,
    TaggingModel,
)

M = TypeVar("M", bound=Model, covariant=True)


@dataclass(frozen=True, slots=True)
class Served(Generic[M]):
    """Model and its description under the name it is served by."""

    model: M
    description: ModelDescription


class ServedModels:
    """Finds the model that a request names, or the only one that fits."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        """Raises `InvalidRequest` if there is no model, or one without a name."""
        if not models or "" in models:
            raise InvalidRequest(f"models are named {sorted(models)}; give at least one, each with a name")
        self._all: dict[str, Served[Any]] = {
            name: Served(model, replace(model.describe(), name=name)) for name, model in models.items()
        }

    def scorer(self, name: str) -> Served[ScoringModel]:
        """Finds the model of that name if it scores, or the only one that does if `name` is empty; else `NotFound`."""
        return self._that("scores", name)

    def classifier(self, name: str) -> Served[ClassifyingModel]:
        """Finds the model of that name if it classifies, or the only one that does if `name` is empty."""
        return self._that("classifies", name)

    def encoder(self, name: str) -> Served[EncodingModel]:
        """Finds the model of that name if it encodes, or the only one that does if `name` is empty; else `NotFound`."""
        return self._that("encodes", name)

    def tagger(self, name: str) -> Served[TaggingModel]:
        """Finds the model of that name if it tags, or the only one that does if `name` is empty; else `NotFound`."""
        return self._that("tags", name)

    def any(self, name: str) -> Served[Model]:
        """Finds the model of that name, or the only one if `name` is empty; else `NotFound`."""
        return _find(self._all, name, "model")

    def description(self, name: str) -> ModelDescription:
        """Describes the model of that name, or the only one if `name` is empty; else `NotFound`."""
        return self.any(name).description

    def alive(self) -> dict[str, bool]:
        """Says whether each model still answers, by name."""
        return {name: each.model.alive for name, each in self._all.items()}

    def descriptions(self) -> tuple[ModelDescription, ...]:
        """Describes every model, by name."""
        return tuple(self._all[name].description for name in sorted(self._all))

    def _that(self, capability: Capability, name: str) -> Served[Any]:
        able = {name: each for name, each in self._all.items() if capability in each.model.capabilities}
        return _find(able, name, f"model that {capability}")


def submit_score(
    served: Served[ScoringModel], query: ScoreQuery, timeout_s: float | None
) -> "Future[ScoreResult]":
    """Submits a query. Raises as the model's `submit`, `InvalidRequest` for features that it does not take."""
    options: dict[str, Any] = {"truncation": query.truncation, "on_missing": query.on_missing}
    if query.features is not None:
        if "weighs" not in served.model.capabilities:
            raise InvalidRequest(
                f"features: {served.description.name!r} of kind {served.description.kind} takes none: leave them out"
            )
        options["features"] = query.features
    prefix = cast(Prefix, query.prefix)  # a model that takes no other refuses it by name
    return served.model.submit(prefix, query.items, timeout_s, **options)


def _find(candidates: Mapping[str, Served[M]], name: str, what: str) -> Served[M]:
    if name in candidates:
        return candidates[name]
    if not name and len(candidates) == 1:
        return next(iter(candidates.values()))
    have = f"this server has {', '.join(sorted(candidates)) or 'none'}"
    if name:
        raise NotFound(f"no {what} is named {name!r}; {have}")
    raise NotFound(f"the request names no {what}, and {have}; name one")
