"""KV of prefixes kept across requests: a radix tree over tokens, under a byte budget.

Owns which tokens' KV exists, who holds it, and what is dropped first. Knows nothing of requests, of batches,
or of what a KV handle is made of. Driven by one thread.

Every node but the root is a run of consecutive tokens with their KV; a path from the root spells a prefix. KV that
cannot be split is used whole or not at all: then children of a node may begin alike.
Tokens are int64: ids, or negative stand-ins for injected embeddings. They are always compared themselves,
never by a hash of them.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixKV, SplitKV
from rankport.runtime.scheduling.counts import CacheStats

Tokens = NDArray[np.int64]

_LEAST_STEP = 16
"""Tokens that are worth a KV of their own where it cannot be split."""


@dataclass(frozen=True, slots=True)
class _NoKV:
    """The root's KV: of no tokens."""

    length: int = 0
    nbytes: int = 0


@dataclass(slots=True, eq=False)
class _Node:
    tokens: Tokens
    kv: PrefixKV
    parent: "_Node | None"
    # By first token, or by all where KV is whole.
    children: "dict[int | bytes, _Node]" = field(default_factory=dict)
    lengths: Counter[int] = field(default_factory=Counter)  # of the children, where KV is whole
    latest: "_Node | None" = None  # child
    leases: int = 0  # that end here; a node with children needs no pin, only leaves are dropped


@dataclass(slots=True, eq=False)
class Lease:
    """A prefix, as far as its KV exists, pinned until released.

    It names the last node, not the handles on the way, so a node that is split under it stays covered.
    """

    node: _Node
    length: int = 0  # tokens covered
    private: list[PrefixKV] = field(default_factory=list)  # beyond `node`: KV the budget had no room for

    @property
    def branch(self) -> int:
        """Equal for two live leases exactly when they cover the same stored tokens."""
        return id(self) if self.private else id(self.node)

    def pieces(self) -> tuple[PrefixKV, ...]:
        """Lists the KV handles from the prefix's first token to the last covered one; valid until the cache changes."""
        path = [node.kv for node in _upwards(self.node)]
        return (*reversed(path), *self.private)


class PrefixCache:
    """The tree. `budget_bytes` bounds what it stores; KV that finds no room lives as long as its lease."""

    def __init__(self, budget_bytes: int, split_kv: SplitKV | None) -> None:
        """Takes the way to split KV; None: it is whole."""
        self._budget_bytes = budget_bytes
        self._split_kv = split_kv
        self._root = _Node(np.empty(0, np.int64), _NoKV(), None)
        # Least recently used first. Using a node uses its ancestors after it: children precede their parents,
        # so that a victim is found among the first few.
        self._order: OrderedDict[_Node, None] = OrderedDict()
        self._live_leases = 0
        self._bytes = 0
        self._lookups = self._hits = self._reused = self._computed = self._evictions = 0

    def match(self, tokens: Tokens) -> Lease:
        """Pins the longest stored start of `tokens`. [tokens]"""
        lease = Lease(self._root)
        self._root.leases += 1
        self._live_leases += 1
        try:
            matched = self.extend(lease, tokens)
        except BaseException:
            self.release(lease)
            raise
        self._lookups += 1
        self._hits += matched > 0
        return lease

    def extend(self, lease: Lease, tokens: Tokens) -> int:
        """Moves the lease over those of the `tokens` after it that are stored by now, and counts them."""
        if lease.private:
            return 0
        node, matched = self._walk(lease.node, tokens)
        if matched:
            self._move(lease, node, matched)
            self._reused += matched
        return matched

    def step(self, lease: Lease, tokens: Tokens) -> int:
        """Counts the first of the `tokens` after the lease to be computed by themselves, at best all.

        Where KV is whole, what the latest prefix behind the same tokens begins with too is: others will.
        """
        latest = lease.node.latest
        if self._split_kv is not None or latest is None or lease.private:
            return tokens.size
        shared = common_length(latest.tokens, tokens)
        return shared if shared >= _LEAST_STEP else tokens.size

    def insert(self, lease: Lease, tokens: Tokens, kv: PrefixKV) -> None:
        """Adds the KV of the `tokens` right after the lease, which covers them from now on."""
        assert kv.length == tokens.size > 0, (kv.length, tokens.size)
        # A request of the same pass may have brought a part.
        node, known = (lease.node, 0) if lease.private else self._walk(lease.node, tokens)
        if self._split_kv is None and known < tokens.size:
            node, known = lease.node, 0
        if 0 < known < tokens.size:
            assert self._split_kv is not None
            _, kv = self._split_kv(kv, known)  # may raise: the lease is where it was
        self._computed += tokens.size
        if known:
            self._move(lease, node, known)
        if known == tokens.size:
            return
        if not lease.private and self._make_room(kv.nbytes):
            self._move(lease, self._add_leaf(node, tokens[known:], kv), kv.length)
        else:
            self._keep_private(lease, kv)

    def release(self, lease: Lease) -> None:
        """Unpins. The lease must not be used again."""
        assert lease.node.leases > 0, "released twice"
        self._touch(lease.node)
        lease.node.leases -= 1
        self._live_leases -= 1
        lease.private.clear()
        self._make_room(0)

    def give_way(self) -> bool:
        """Drops half of what it stores, the least recently used first, as far as nothing is leased; says if it did."""
        before = self._bytes
        self._drop_down_to(before // 2)
        return self._bytes < before

    def stats(self) -> CacheStats:
        """Takes a snapshot of the counters; any thread may."""
        return CacheStats(
            lookups=self._lookups,
            hits=self._hits,
            tokens_reused=self._reused,
            tokens_computed=self._computed,
            evictions=self._evictions,
            nodes=len(self._order),
            bytes=self._bytes,
            budget_bytes=self._budget_bytes,
        )

    def clear(self) -> None:
        """Drops everything, leased or not; the cache is not used again."""
        self._order.clear()
        self._root.children.clear()
        self._root.latest = None
        self._bytes = 0

    def check_integrity(self) -> None:
        """Asserts every invariant of the tree; for tests."""
        rank = {node: position for position, node in enumerate(self._order)}
        nodes = list(_downwards(self._root))
        assert set(nodes) == set(rank), "nodes of the tree and of the order differ"
        for node in nodes:
            assert node.parent is not None
            assert node.parent.children[self._key(node.tokens)] is node
            lengths = Counter(child.tokens.size for child in node.children.values())
            assert self._split_kv is not None or node.lengths == lengths
            assert node.kv.length == node.tokens.size > 0
            assert node.parent is self._root or rank[node] < rank[node.parent], "a parent is the older one"
        assert self._bytes == sum(node.kv.nbytes for node in nodes)
        assert self._live_leases == self._root.leases + sum(node.leases for node in nodes)

    def _walk(self, node: _Node, tokens: Tokens) -> tuple[_Node, int]:
        """Follows `tokens` down from `node`, splitting where they leave a node midway."""
        matched = 0
        while matched < tokens.size:
            child = self._child(node, tokens[matched:])
            if child is None:
                break
            shared = common_length(child.tokens, tokens[matched:])
            node = child if shared == child.tokens.size else self._split(child, shared)
            matched += shared
        return node, matched

    def _key(self, tokens: Tokens) -> int | bytes:
        """Makes what a child is found by."""
        return tokens.tobytes() if self._split_kv is None else int(tokens[0])

    def _child(self, node: _Node, tokens: Tokens) -> _Node | None:
        """Finds the child that `tokens` begin alike, or where KV is whole the longest that they begin with."""
        if self._split_kv is not None:
            return node.children.get(self._key(tokens))
        lengths = sorted((length for length in node.lengths if length <= tokens.size), reverse=True)
        children = (node.children.get(self._key(tokens[:length])) for length in lengths)
        return next((child for child in children if child is not None), None)

    def _split(self, node: _Node, length: int) -> _Node:
        """Cuts a node in two and returns the upper, new one; leases stay with the lower, where they end."""
        assert node.parent is not None
        assert self._split_kv is not None
        whole_bytes = node.kv.nbytes
        upper_kv, lower_kv = self._split_kv(node.kv, length)  # may raise: nothing has changed yet
        upper = _Node(node.tokens[:length], upper_kv, node.parent)
        node.parent.children[self._key(upper.tokens)] = upper
        node.tokens, node.kv, node.parent = node.tokens[length:], lower_kv, upper
        upper.children[self._key(node.tokens)] = node
        self._bytes += upper_kv.nbytes + lower_kv.nbytes - whole_bytes
        self._order[upper] = None
        self._touch(upper)
        return upper

    def _add_leaf(self, parent: _Node, tokens: Tokens, kv: PrefixKV) -> _Node:
        leaf = _Node(tokens.copy(), kv, parent)  # a view would keep the request's whole array alive
        parent.children[self._key(leaf.tokens)] = leaf
        if self._split_kv is None:
            parent.latest = leaf
            parent.lengths[leaf.tokens.size] += 1
        self._bytes += kv.nbytes
        self._order[leaf] = None
        return leaf

    def _move(self, lease: Lease, node: _Node, tokens: int) -> None:
        lease.node.leases -= 1
        node.leases += 1
        lease.node = node
        lease.length += tokens
        self._touch(node)

    def _keep_private(self, lease: Lease, kv: PrefixKV) -> None:
        lease.private.append(kv)
        lease.length += kv.length

    def _touch(self, node: _Node) -> None:
        for used in _upwards(node):
            self._order.move_to_end(used)

    def _make_room(self, nbytes: int) -> bool:
        """Makes `nbytes` more fit; False if they cannot."""
        return nbytes <= self._budget_bytes and self._drop_down_to(self._budget_bytes - nbytes)

    def _drop_down_to(self, most_bytes: int) -> bool:
        """Drops least recently used leaves without a lease until so many bytes are left; False if more are."""
        while self._bytes > most_bytes:
            victim = next((node for node in self._order if not node.leases and not node.children), None)
            if victim is None:
                return False
            self._drop(victim)
        return True

    def _drop(self, leaf: _Node) -> None:
        assert leaf.parent is not None
        parent = leaf.parent
        del parent.children[self._key(leaf.tokens)]
        if self._split_kv is None:
            parent.lengths[leaf.tokens.size] -= 1
            parent.lengths += Counter()  # without those that none has
            parent.latest = None if parent.latest is leaf else parent.latest
        del self._order[leaf]
        self._bytes -= leaf.kv.nbytes
        self._evictions += 1


def common_length(a: Tokens, b: Tokens) -> int:
    """Counts the leading tokens that are equal."""
    shorter = min(a.size, b.size)
    first = (a[:shorter] != b[:shorter]).tobytes().find(1)
    return shorter if first < 0 else first


def _upwards(node: _Node) -> Iterator[_Node]:
    """Yields the node and its ancestors below the root."""
    while node.parent is not None:
        yield node
        node = node.parent


def _downwards(node: _Node) -> Iterator[_Node]:
    """Yields the node's descendants."""
    stack = list(node.children.values())
    while stack:
        child = stack.pop()
        yield child
        stack.extend(child.children.values())
