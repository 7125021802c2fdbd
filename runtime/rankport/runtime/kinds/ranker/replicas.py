"""Engines of a ranker on several devices as one: a request goes where its prefix lies in a cache."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from zlib import crc32

from rankport.runtime.backends.contract import TokenRun
from rankport.runtime.kinds.ranker.engine import Engine, Scored, prefix_key
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.scheduling.prefix_cache import CacheStats


class ScoringReplicas:
    """Several `Engine`s as one. Thread-safe; owns and closes them."""

    def __init__(self, engines: Mapping[int, Engine], slack_tokens: int) -> None:
        """Takes engines by the number of the GPU; `slack_tokens` as `Replicas`."""
        self._engines = tuple(engines.values())
        self._replicas = Replicas(engines, slack_tokens)

    def submit(
        self,
        prefix: TokenRun,
        items: Sequence[TokenRun],
        timeout_s: float | None = None,
        *,
        spent_s: float = 0.0,
    ) -> "Future[Scored]":
        """See `Engine.submit`."""
        tokens = prefix.ids.size + sum(item.ids.size for item in items)
        return self._replicas.submit(
            lambda engine: engine.submit(prefix, items, timeout_s, spent_s=spent_s),
            tokens,
            crc32(prefix_key(prefix).tobytes()),
        )

    def cache_stats(self) -> CacheStats:
        """Adds up the counters of all devices."""
        return CacheStats.total([engine.cache_stats() for engine in self._engines])

    @property
    def alive(self) -> bool:
        """False once all have stopped."""
        return self._replicas.alive

    def close(self, grace_s: float = 0.0) -> None:
        """See `Engine.close`."""
        self._replicas.close(grace_s)
