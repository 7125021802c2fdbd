"""Requests some of whose scores are known: only the others go to the model."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.features import FeatureColumns
from rankport.protos.messages.wire import ScoreQuery
from rankport.protos.types import ItemStatus, ModelDescription, ScoreResult, Usage
from rankport.runtime.kinds.capabilities import ScoringModel
from rankport.runtime.scheduling.futures import converted, resolved
from rankport.runtime.server.models.models import Served, tokens_of
from rankport.runtime.server.scoring.cache import CachedScore, ScoreCache
from rankport.runtime.server.scoring.keys import keyed_query

_KEPT = (ItemStatus.OK, ItemStatus.TRUNCATED)
Submit = Callable[[ScoreQuery, float | None], "Future[ScoreResult]"]


def part_of(query: ScoreQuery, places: NDArray[np.int64]) -> ScoreQuery:
    """Makes a query of the items at these places, ascending."""
    features = query.features
    if features is not None:
        features = FeatureColumns(features.values[places], features.names)
    return replace(query, items=query.items.take(places), features=features)


class CachedScoring:
    """Submits queries with a cache of scores before the model. Any thread may call it."""

    def __init__(self, cache: ScoreCache) -> None:
        self._cache = cache

    def submit(
        self, served: Served[ScoringModel], query: ScoreQuery, timeout_s: float | None, submit: Submit
    ) -> "Future[ScoreResult]":
        """Submits what is not known of a query. Raises as `submit`, with the places of the whole query."""
        begun_s = time.perf_counter()
        apart = "scores_apart" in served.model.capabilities
        keyed = keyed_query(served.description.fingerprint, query, tokens_of(served), apart=apart)
        if keyed is None:
            return submit(query, timeout_s)
        found = self._cache.find(keyed.keys)
        absent = np.flatnonzero([score is None for score in found])
        if not len(absent) and len(found):
            return resolved(_all_known(found, served.description, time.perf_counter() - begun_s))
        if keyed.query.on_missing == "fail" and keyed.query.items.keys is not None:
            return submit(query, timeout_s)  # which tells the first of them by its place in the whole query
        if len(absent) == len(found) or not apart:
            return converted(submit(keyed.query, timeout_s), partial(self._keep, keyed.keys))
        try:
            scored = submit(part_of(keyed.query, absent), timeout_s)
        except (InvalidRequest, NotFound):  # names a place among the absent ones
            return submit(query, timeout_s)
        missing = [keyed.keys[place] for place in absent.tolist()]
        merging = partial(_merged, found=found, absent=absent)
        return converted(scored, lambda result: merging(self._keep(missing, result)))

    def _keep(self, keys: Sequence[bytes | None], result: ScoreResult) -> ScoreResult:
        scores = {
            key: CachedScore(float(score), row.tobytes(), status, message)
            for key, score, row, status, message in zip(
                keys, result.scores, result.logits, result.status, result.messages, strict=True
            )
            if key is not None and status in _KEPT
        }
        self._cache.put(scores)
        return result


@dataclass(frozen=True, slots=True)
class _Columns:
    """Known scores as the columns of a result."""

    scores: NDArray[np.float32]  # [items]
    logits: NDArray[np.float32]  # [items, labels]
    status: list[ItemStatus]
    messages: list[str]

    @classmethod
    def of(cls, known: Sequence[CachedScore]) -> "_Columns":
        logits = np.frombuffer(b"".join(score.logits for score in known), np.float32)
        return cls(
            scores=np.array([score.score for score in known], np.float32),
            logits=logits.reshape(len(known), -1).copy(),
            status=[score.status for score in known],
            messages=[score.message for score in known],
        )


def _all_known(found: Sequence[CachedScore | None], model: ModelDescription, spent_s: float) -> ScoreResult:
    known = _Columns.of([score for score in found if score is not None])
    return ScoreResult(
        scores=known.scores,
        logits=known.logits,
        status=tuple(known.status),
        messages=tuple(known.messages),
        usage=Usage(0, 0, 0, spent_s, 0.0, 0.0, items_cached=len(found)),
        fingerprint=model.fingerprint,
        score_kind=model.score_kind,
        read_out=model.read_out,
    )


def _merged(
    result: ScoreResult, *, found: Sequence[CachedScore | None], absent: NDArray[np.int64]
) -> ScoreResult:
    known = _Columns.of([score for score in found if score is not None])
    places = np.setdiff1d(np.arange(len(found)), absent, assume_unique=True)
    order = np.argsort(np.concatenate([places, absent])).tolist()
    status = [*known.status, *result.status]
    messages = [*known.messages, *result.messages]
    return replace(
        result,
        scores=np.concatenate([known.scores, result.scores])[order],
        logits=np.concatenate([known.logits, result.logits])[order],
        status=tuple(status[index] for index in order),
        messages=tuple(messages[index] for index in order),
        usage=replace(result.usage, items_cached=len(places)),
    )
