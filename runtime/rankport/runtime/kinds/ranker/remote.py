"""`RemoteRankerEngine`: a ranker's `Engine` in another process."""

from concurrent.futures import Future
from dataclasses import asdict

from rankport.runtime.kinds.ranker.engine import Scored
from rankport.runtime.kinds.remote.messages import run_columns, runs_columns
from rankport.runtime.kinds.remote.remote_engine import RemoteEngine
from rankport.runtime.links.columns import Columns
from rankport.runtime.scheduling.counts import CacheStats
from rankport.runtime.scheduling.futures import converted
from rankport.runtime.tokens import TokenRun, TokenRuns

_ARRAYS = ("logits", "failed")


class RemoteRankerEngine(RemoteEngine):
    """Sends a prefix and items, and reads logits."""

    def submit(
        self, prefix: TokenRun, items: TokenRuns, timeout_s: float | None = None, *, spent_s: float = 0.0
    ) -> "Future[Scored]":
        """Queues a request as `Engine.submit`; the future raises what that does too.

        It raises `AbsentKeysError` where items are named by keys, and the device has no tokens of some.
        """
        arrays = run_columns("prefix", prefix) | runs_columns("items", items)
        sent = self._submit(arrays, len(prefix.ids) + len(items.ids), timeout_s, spent_s)
        return converted(sent, scored_of)

    @property
    def resident(self) -> int:
        """Items whose tokens are on the device, as the engine told last."""
        state = self._connection.state
        return 0 if state is None else state.resident

    def cache_stats(self) -> CacheStats:
        """Returns the counters of the prefix cache that the engine told last."""
        state = self._connection.state
        return CacheStats(*[0] * 8) if state is None or state.cache is None else state.cache


def scored_columns(scored: Scored) -> Columns:
    """Writes an answer."""
    values = asdict(scored)
    return Columns(values, {name: values.pop(name) for name in _ARRAYS})


def scored_of(columns: Columns) -> Scored:
    """Reads an answer."""
    return Scored(**columns.arrays, **columns.values)  # type: ignore[arg-type]
