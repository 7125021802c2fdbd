"""`Scoring`: way of a score query to a model, the same for every front. Owns the order of what is done on the way."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, cast

from rankport.protos.errors import InvalidRequest
from rankport.protos.messages.wire import ScoreQuery
from rankport.protos.types import Prefix, ScoreResult
from rankport.runtime.kinds.capabilities import ScoringModel
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.models.models import Served, ServedModels, tokens_of
from rankport.runtime.server.scoring.cache import ScoreCache
from rankport.runtime.server.scoring.cached import CachedScoring
from rankport.runtime.server.scoring.depth import Depth
from rankport.runtime.server.scoring.missing import MissingItems


class Scoring:
    """Submits queries to models: the first items under pressure, missing ones encoded, known scores from the cache."""

    def __init__(
        self,
        models: ServedModels,
        config: ServerConfig,
        pending: Callable[[], int],
        executor: Executor,
    ) -> None:
        """`pending` counts requests that are worked on; `executor` goes on with what waited for an encoder."""
        self.cache = ScoreCache(config.score_cache_bytes)
        self._cached = CachedScoring(self.cache) if config.score_cache_bytes else None
        self._depth = Depth(config, pending)
        self._missing = MissingItems(models.encoder_of, executor)

    def submit(
        self, served: Served[ScoringModel], query: ScoreQuery, timeout_s: float | None
    ) -> "Future[ScoreResult]":
        """Submits a query; any thread may. Raises as the model's `submit`, and as `MissingItems.submit`."""
        features = query.features
        if features is not None and len(features.values) != query.items.count:
            return _submitted(served, query, timeout_s)  # which refuses it
        return self._depth.submit(query, timeout_s, lambda cut, left_s: self._filled(served, cut, left_s))

    def _filled(
        self, served: Served[ScoringModel], query: ScoreQuery, timeout_s: float | None
    ) -> "Future[ScoreResult]":
        if query.on_missing != "encode":
            return self._scored(served, query, timeout_s)
        tokens = tokens_of(served)
        if tokens is None:
            raise InvalidRequest(
                f"on_missing is 'encode', and {served.description.name!r} reads no token store: give 'skip' or 'fail'"
            )
        return self._missing.submit(
            tokens, query, timeout_s, lambda filled, left_s: self._scored(served, filled, left_s)
        )

    def _scored(
        self, served: Served[ScoringModel], query: ScoreQuery, timeout_s: float | None
    ) -> "Future[ScoreResult]":
        if self._cached is None:
            return _submitted(served, query, timeout_s)
        return self._cached.submit(
            served, query, timeout_s, lambda part, left_s: _submitted(served, part, left_s)
        )


def _submitted(
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
