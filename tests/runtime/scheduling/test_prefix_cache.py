"""The prefix cache: what it gives back is what was put in, whatever is split, dropped or leased meanwhile."""

import gc
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixKV, SplitKV
from rankport.runtime.scheduling.prefix_cache import Lease, PrefixCache
from support.effort import scale

TOKEN_BYTES = 10


@dataclass(eq=False)
class SpelledKV:
    """A handle that knows the tokens it stands for, with all those before them."""

    tokens: NDArray[np.int64]
    alive: bool = True

    @property
    def length(self) -> int:
        return self.tokens.size

    @property
    def nbytes(self) -> int:
        return self.tokens.size * TOKEN_BYTES


def split(kv: PrefixKV, length: int) -> tuple[PrefixKV, PrefixKV]:
    assert isinstance(kv, SpelledKV)
    assert kv.alive
    assert 0 < length < kv.length
    kv.alive = False
    return SpelledKV(kv.tokens[:length]), SpelledKV(kv.tokens[length:])


def tokens(*ids: int) -> NDArray[np.int64]:
    return np.array(ids, np.int64)


def spelled(lease: Lease) -> list[int]:
    ids: list[int] = []
    for kv in lease.pieces():
        assert isinstance(kv, SpelledKV)
        assert kv.alive
        ids += kv.tokens.tolist()
    return ids


def cache_of(budget_tokens: int, *prefixes: NDArray[np.int64]) -> PrefixCache:
    cache = PrefixCache(budget_tokens * TOKEN_BYTES, split)
    for prefix in prefixes:
        cache.release(stored(cache, prefix))
    return cache


def stored(cache: PrefixCache, prefix: NDArray[np.int64]) -> Lease:
    lease = cache.match(prefix)
    if lease.length < prefix.size:
        rest = prefix[lease.length :]
        cache.insert(lease, rest, SpelledKV(rest))
    return lease


def matched(cache: PrefixCache, prefix: NDArray[np.int64]) -> int:
    lease = cache.match(prefix)
    cache.release(lease)
    return lease.length


def test_a_stored_prefix_is_found_whole_and_in_part() -> None:
    cache = cache_of(100, tokens(1, 2, 3, 4))
    assert matched(cache, tokens(1, 2, 3, 4)) == 4
    assert matched(cache, tokens(1, 2, 3, 4, 5)) == 4
    assert matched(cache, tokens(1, 2, 9)) == 2
    assert matched(cache, tokens(2, 3)) == 0
    assert matched(cache, tokens()) == 0


def test_negative_tokens_are_tokens_like_any_other() -> None:
    cache = cache_of(100, tokens(1, -(2**63), -2))
    assert matched(cache, tokens(1, -(2**63), -2)) == 3
    assert matched(cache, tokens(1, -(2**63), -3)) == 2


def test_a_lease_outlives_the_split_of_its_node() -> None:
    cache = cache_of(100)
    held = stored(cache, tokens(1, 2, 3, 4))
    other = stored(cache, tokens(1, 2, 7, 8))
    assert spelled(held) == [1, 2, 3, 4]
    assert spelled(other) == [1, 2, 7, 8]
    assert cache.stats().bytes == 6 * TOKEN_BYTES
    cache.check_integrity()


def test_what_is_leased_is_never_dropped() -> None:
    cache = cache_of(4)
    held = stored(cache, tokens(1, 2, 3))
    overflow = stored(cache, tokens(5, 6, 7))
    assert spelled(held) == [1, 2, 3]
    assert spelled(overflow) == [5, 6, 7], "what finds no room lives with its lease"
    assert cache.stats().bytes == 3 * TOKEN_BYTES
    cache.release(overflow)
    assert matched(cache, tokens(5, 6, 7)) == 0
    cache.check_integrity()


def test_a_prefix_longer_than_the_budget_is_covered_piece_by_piece() -> None:
    cache = cache_of(3)
    prefix = tokens(*range(1, 9))
    lease = cache.match(prefix)
    for start in range(0, 8, 2):
        cache.insert(lease, prefix[start : start + 2], SpelledKV(prefix[start : start + 2]))
    assert spelled(lease) == prefix.tolist()
    assert cache.extend(lease, tokens(9)) == 0
    assert cache.stats().bytes <= 3 * TOKEN_BYTES


def test_the_least_recently_used_prefix_goes_first() -> None:
    cache = cache_of(6, tokens(1, 1), tokens(2, 2), tokens(3, 3))
    matched(cache, tokens(1, 1))
    stored(cache, tokens(4, 4))
    assert [matched(cache, tokens(token, token)) for token in (1, 2, 3, 4)] == [2, 0, 2, 2]
    assert cache.stats().evictions == 1


def test_a_shared_start_outlives_its_continuations() -> None:
    cache = cache_of(6, tokens(1, 2, 3, 3), tokens(1, 2, 4, 4))
    stored(cache, tokens(5, 5))
    assert matched(cache, tokens(1, 2, 3, 3)) == 2
    assert matched(cache, tokens(1, 2, 4, 4)) == 4


def test_a_lease_moves_on_when_another_request_stores_more() -> None:
    cache = cache_of(100)
    early = cache.match(tokens(1, 2, 3))
    stored(cache, tokens(1, 2, 3, 4))
    assert cache.extend(early, tokens(1, 2, 3)) == 3
    assert spelled(early) == [1, 2, 3]
    cache.check_integrity()


def test_tokens_stored_twice_in_one_pass_are_kept_once() -> None:
    cache = cache_of(100)
    first, second, third = (cache.match(tokens(1)) for _ in range(3))
    cache.insert(first, tokens(1, 2, 3), SpelledKV(tokens(1, 2, 3)))
    cache.insert(second, tokens(1, 2, 4), SpelledKV(tokens(1, 2, 4)))
    cache.insert(third, tokens(1, 2), SpelledKV(tokens(1, 2)))
    assert [spelled(lease) for lease in (first, second, third)] == [[1, 2, 3], [1, 2, 4], [1, 2]]
    assert cache.stats().bytes == 4 * TOKEN_BYTES
    cache.check_integrity()


def test_a_split_that_fails_leaves_tree_and_leases_as_they_were() -> None:
    def no_split(kv: PrefixKV, length: int) -> tuple[PrefixKV, PrefixKV]:
        raise MemoryError

    cache = PrefixCache(1000, no_split)
    stored(cache, tokens(1, 2, 3))
    with pytest.raises(MemoryError):
        cache.match(tokens(1, 9))
    cache.check_integrity()
    assert matched(cache, tokens(1, 2, 3)) == 3


def test_stats_count_lookups_reused_and_computed_tokens() -> None:
    cache = cache_of(100, tokens(1, 2, 3), tokens(1, 2, 4), tokens(9))
    stats = cache.stats()
    assert (stats.lookups, stats.hits, stats.tokens_reused, stats.tokens_computed) == (3, 1, 2, 5)
    assert (stats.nodes, stats.bytes, stats.budget_bytes) == (4, 50, 1000)


def whole_cache(budget_tokens: int, *prefixes: NDArray[np.int64]) -> PrefixCache:
    cache = PrefixCache(budget_tokens * TOKEN_BYTES, None)
    for prefix in prefixes:
        cache.release(stored(cache, prefix))
    return cache


def test_kv_that_cannot_be_split_is_found_whole_or_not_at_all() -> None:
    cache = whole_cache(100, tokens(1, 2, 3), tokens(1, 2, 4), tokens(1, 2))
    assert matched(cache, tokens(1, 2, 3, 9)) == 3
    assert matched(cache, tokens(1, 2, 4)) == 3
    assert matched(cache, tokens(1, 2, 9)) == 2
    assert matched(cache, tokens(1, 9)) == 0
    assert cache.stats().bytes == 8 * TOKEN_BYTES
    cache.check_integrity()


def test_kv_that_cannot_be_split_is_kept_once_where_a_pass_brings_it_twice() -> None:
    cache = whole_cache(100)
    first, second, third = (cache.match(tokens(1)) for _ in range(3))
    cache.insert(first, tokens(1, 2), SpelledKV(tokens(1, 2)))
    cache.insert(second, tokens(1, 2, 3), SpelledKV(tokens(1, 2, 3)))
    cache.insert(third, tokens(1, 2), SpelledKV(tokens(1, 2)))
    assert first.branch == third.branch
    assert [spelled(lease) for lease in (first, second, third)] == [[1, 2], [1, 2, 3], [1, 2]]
    assert cache.stats().bytes == 5 * TOKEN_BYTES
    cache.check_integrity()


def test_what_the_latest_prefix_begins_with_too_is_a_step_of_its_own_where_kv_is_whole() -> None:
    instruction = list(range(20))
    cache = whole_cache(1000, tokens(*instruction, 30))
    lease = cache.match(tokens(*instruction, 31))
    assert cache.step(lease, tokens(*instruction, 31)) == 20
    assert cache.step(lease, tokens(*instruction[:15], 31)) == 16, "too few to be worth it: all"
    assert cache.step(lease, tokens(*instruction)) == 20
    assert cache_of(1000, tokens(*instruction, 30)).step(lease, tokens(*instruction, 31)) == 21
    assert whole_cache(1000).step(whole_cache(1000).match(tokens(1)), tokens(1, 2)) == 2


@pytest.mark.parametrize("cache", [cache_of(100, tokens(1, 2)), whole_cache(100, tokens(1, 2))])
def test_a_cleared_cache_keeps_nothing_alive(cache: PrefixCache) -> None:
    lease = cache.match(tokens(1, 2))
    kept = weakref.ref(lease.pieces()[0])
    cache.release(lease)
    del lease
    cache.clear()
    gc.collect()
    assert kept() is None


def test_a_step_forgets_a_prefix_that_was_dropped() -> None:
    cache = whole_cache(20, tokens(*range(20)))
    cache.release(stored(cache, tokens(*range(100, 120))))
    assert cache.stats().evictions == 1
    lease = cache.match(tokens(*range(16), 7))
    assert cache.step(lease, tokens(*range(16), 7)) == 17
    cache.check_integrity()


prefixes = st.lists(st.integers(-2, 2), max_size=8)


class CacheUnderUse(RuleBasedStateMachine):
    """Leases taken, extended, filled and released in any order, under a budget of a few tokens."""

    leases = Bundle("leases")
    split: SplitKV | None = staticmethod(split)

    def __init__(self) -> None:
        super().__init__()
        self.cache = PrefixCache(12 * TOKEN_BYTES, self.split)
        self.live: dict[Lease, NDArray[np.int64]] = {}

    @rule(target=leases, prefix=prefixes)
    def match(self, prefix: list[int]) -> Lease:
        lease = self.cache.match(tokens(*prefix))
        self.live[lease] = tokens(*prefix)
        return lease

    @rule(lease=leases)
    def extend(self, lease: Lease) -> None:
        self.cache.extend(lease, self.live[lease][lease.length :])

    @rule(lease=leases, size=st.integers(1, 4))
    def insert(self, lease: Lease, size: int) -> None:
        chunk = self.live[lease][lease.length :][:size]
        if chunk.size:
            self.cache.insert(lease, chunk, SpelledKV(chunk))

    @rule()
    def give_way(self) -> None:
        before = self.cache.stats().bytes
        assert self.cache.give_way() == (self.cache.stats().bytes < before)

    @rule(lease=consumes(leases))
    def release(self, lease: Lease) -> None:
        self.cache.release(lease)
        del self.live[lease]

    @invariant()
    def every_lease_spells_its_tokens(self) -> None:
        for lease, prefix in self.live.items():
            assert spelled(lease) == prefix[: lease.length].tolist()

    @invariant()
    def equal_branches_are_equal_prefixes(self) -> None:
        by_branch: dict[int, list[int]] = {}
        for lease in self.live:
            assert by_branch.setdefault(lease.branch, spelled(lease)) == spelled(lease)

    @invariant()
    def the_tree_is_sound_and_within_its_budget(self) -> None:
        self.cache.check_integrity()
        assert self.cache.stats().bytes <= 12 * TOKEN_BYTES


TestCacheUnderUse = CacheUnderUse.TestCase
TestCacheUnderUse.settings = settings(max_examples=scale(60), stateful_step_count=30)


class WholeCacheUnderUse(CacheUnderUse):
    """Cache under use whose KV cannot be split."""

    split = None


TestWholeCacheUnderUse = WholeCacheUnderUse.TestCase
TestWholeCacheUnderUse.settings = settings(max_examples=scale(60), stateful_step_count=30)
