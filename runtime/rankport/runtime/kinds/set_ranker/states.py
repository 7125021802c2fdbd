"""States of histories: keys and values of events, kept in the prefix cache under the events themselves."""

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixKV, SplitKV
from rankport.runtime.scheduling.counts import CacheStats
from rankport.runtime.scheduling.prefix_cache import Lease, PrefixCache, Tokens


class HistoryStates:
    """States by events. Driven by one thread. Implements `prefixes.Cache`.

    The prefix cache compares tokens; here an event is the token that its bytes (ids, features, time) were given first.
    Names are never reused: beyond `most_events` of them cache and names begin anew, and the cache of before ends with
    its last lease.
    """

    def __init__(self, budget_bytes: int, split: SplitKV, most_events: int = 1_000_000) -> None:
        """Keeps up to so many bytes where the backend has them; `split` is the backend's."""
        self._budget_bytes, self._split, self._most_events = budget_bytes, split, most_events
        self._names: dict[bytes, int] = {}
        self._cache = PrefixCache(budget_bytes, split)
        self._cache_of: dict[Lease, PrefixCache] = {}
        self._past = CacheStats(0, 0, 0, 0, 0, 0, 0, 0)

    def tokens(self, identity: NDArray[np.uint8]) -> Tokens:
        """Names events, of their bytes [events, bytes], for a lease that is taken before others are named."""
        if len(self._names) + len(identity) > self._most_events:
            self._names.clear()
            self._past = CacheStats.total([self._past, self._cache.stats()])
            self._cache = PrefixCache(self._budget_bytes, self._split)
        names = self._names
        return np.array([names.setdefault(event.tobytes(), len(names)) for event in identity], np.int64)

    def match(self, tokens: Tokens) -> Lease:
        """See `PrefixCache.match`."""
        lease = self._cache.match(tokens)
        self._cache_of[lease] = self._cache
        return lease

    def extend(self, lease: Lease, tokens: Tokens) -> int:
        """See `PrefixCache.extend`."""
        return self._cache_of[lease].extend(lease, tokens)

    def step(self, lease: Lease, tokens: Tokens) -> int:
        """See `PrefixCache.step`."""
        return self._cache_of[lease].step(lease, tokens)

    def insert(self, lease: Lease, tokens: Tokens, kv: PrefixKV) -> None:
        """See `PrefixCache.insert`."""
        self._cache_of[lease].insert(lease, tokens, kv)

    def give_way(self) -> bool:
        """See `PrefixCache.give_way`."""
        return self._cache.give_way()

    def release(self, lease: Lease) -> None:
        """See `PrefixCache.release`."""
        self._cache_of.pop(lease).release(lease)

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
