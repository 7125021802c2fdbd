"""States of histories: keys and values of events, kept in the prefix cache under the events themselves."""

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixKV
from rankport.runtime.scheduling.prefix_cache import CacheStats, Lease, PrefixCache, SplitKV

_MOST_EVENTS = 1_000_000


class HistoryStates:
    """States by events. Driven by one thread.

    The prefix cache compares tokens; here an event is the token that its bytes (ids, features, time) were given first.
    Names are never reused: beyond `_MOST_EVENTS` of them cache and names begin anew.
    """

    def __init__(self, budget_bytes: int, split: SplitKV) -> None:
        """Keeps up to so many bytes where the backend has them; `split` is the backend's."""
        self._budget_bytes, self._split = budget_bytes, split
        self._names: dict[bytes, int] = {}
        self._cache = PrefixCache(budget_bytes, split)
        self._past = CacheStats(0, 0, 0, 0, 0, 0, 0, 0)

    def tokens(self, identity: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Names events, of their bytes [events, bytes]. Not while a lease is held."""
        if len(self._names) + len(identity) > _MOST_EVENTS:
            self._names.clear()
            self._past = CacheStats.total([self._past, self._cache.stats()])
            self._cache = PrefixCache(self._budget_bytes, self._split)
        names = self._names
        return np.array([names.setdefault(event.tobytes(), len(names)) for event in identity], np.int64)

    def match(self, tokens: NDArray[np.int64]) -> Lease:
        """Pins the longest start of events whose state is kept."""
        return self._cache.match(tokens)

    def insert(self, lease: Lease, tokens: NDArray[np.int64], state: PrefixKV) -> None:
        """Adds the state of the events right after the lease, which covers them from now on."""
        self._cache.insert(lease, tokens, state)

    def release(self, lease: Lease) -> None:
        """Unpins."""
        self._cache.release(lease)

    def clear(self) -> None:
        """Drops all of it, and is not used again."""
        self._cache.clear()

    def stats(self) -> CacheStats:
        """Takes a snapshot of the counters."""
        now = self._cache.stats()
        past = self._past
        return CacheStats(
            past.lookups + now.lookups,
            past.hits + now.hits,
            past.tokens_reused + now.tokens_reused,
            past.tokens_computed + now.tokens_computed,
            past.evictions + now.evictions,
            now.nodes,
            now.bytes,
            now.budget_bytes,
        )
