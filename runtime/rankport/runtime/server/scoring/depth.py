"""Depth under pressure: of a long list only the first items are scored while too many requests wait."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

import numpy as np

from rankport.protos.messages.wire import ScoreQuery
from rankport.protos.types import ItemStatus, ScoreResult
from rankport.protos.wording import be, counted
from rankport.runtime.scheduling.futures import converted
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.scoring.cached import Submit, part_of


class Depth:
    """Cuts queries to the first items, in the caller's order. Any thread may call it."""

    def __init__(self, config: ServerConfig, pending: Callable[[], int]) -> None:
        """`pending` counts the requests that are worked on or wait."""
        self._mark, self._items, self._pending = config.depth_mark, config.depth_items, pending

    def submit(self, query: ScoreQuery, timeout_s: float | None, submit: Submit) -> "Future[ScoreResult]":
        """Submits a query, or its first items if it is long and more requests are pending than the mark."""
        pending = self._pending()
        if not self._mark or pending <= self._mark or query.items.count <= self._items:
            return submit(query, timeout_s)
        count = query.items.count
        reason = (
            f"left out: {counted(pending, 'request')} {be(pending)} pending, more than {self._mark} "
            "(depth_mark), and the first "
            f"{counted(self._items, 'item')} {be(self._items)} scored"
        )
        first = part_of(query, np.arange(self._items))
        return converted(submit(first, timeout_s), lambda result: _widened(result, count, reason))


def _widened(result: ScoreResult, count: int, reason: str) -> ScoreResult:
    """Appends the items that were left out."""
    depth = len(result.scores)
    left = count - depth
    nothing = np.full((left, result.logits.shape[1]), np.nan, np.float32)
    return replace(
        result,
        scores=np.concatenate([result.scores, np.full(left, np.nan, np.float32)]),
        logits=np.concatenate([result.logits, nothing]),
        status=(*result.status, *(ItemStatus.SKIPPED,) * left),
        messages=(*result.messages, *(reason,) * left),
        depth=depth,
    )
