"""`Prefixes`: KV of the prefixes of active requests, leased as far as it is cached, else computed and kept for others.

Owns the part of a pass's plan that is prefill, whatever a prefix is made of and whatever follows it. Driven by the
worker's thread.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from operator import itemgetter
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BackendError
from rankport.runtime.backends.contract import PrefixBatch, PrefixKV, PrefixPieces
from rankport.runtime.config import EngineConfig
from rankport.runtime.scheduling.instances.pool import Instances
from rankport.runtime.scheduling.passes.pass_plan import (
    ItemWork,
    PassLimits,
    PrefixWork,
    plan_prefill,
    prefill_size,
    repeats,
)
from rankport.runtime.scheduling.passes.pass_results import check_count
from rankport.runtime.scheduling.prefix_cache import Lease, Tokens
from rankport.runtime.scheduling.runs_by_length import RunsByLength
from rankport.runtime.scheduling.work import Pass, Request, UnderWay, on_device, taking_part
from rankport.runtime.tokens import EMBEDDED, TokenRun

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False, kw_only=True)
class PrefixRequest(Request):
    """Request behind a prefix."""

    key: Tokens  # [prefix tokens] that its KV is kept under
    prefix_tokens_computed: int = 0

    @property
    def prefix_tokens_cached(self) -> int:
        """Tokens of the prefix whose KV was there."""
        return self.key.size - self.prefix_tokens_computed


@dataclass(slots=True, eq=False, kw_only=True)
class TokenPrefixRequest(PrefixRequest):
    """Request behind a prefix of tokens."""

    prefix: TokenRun


RequestT = TypeVar("RequestT", bound=PrefixRequest)
TokenRequestT = TypeVar("TokenRequestT", bound=TokenPrefixRequest)
ReturnT = TypeVar("ReturnT")


@dataclass(frozen=True, slots=True)
class Part(Generic[RequestT]):
    """Tokens `start` to `end` of a request's prefix, to be computed behind its past."""

    request: RequestT
    past: PrefixPieces
    start: int
    end: int

    @property
    def key(self) -> Tokens:
        """Tokens that its KV is kept under. [end - start]"""
        return self.request.key[self.start : self.end]


Prefill = Callable[[Sequence[Part[RequestT]]], Callable[[], PrefixPieces]]
"""Makes the call that computes the KV of each part."""


class Cache(Protocol):
    """Store of the KV of prefixes: a `PrefixCache`, or several by and by."""

    def match(self, tokens: Tokens) -> Lease:
        """See `PrefixCache.match`."""

    def extend(self, lease: Lease, tokens: Tokens) -> int:
        """See `PrefixCache.extend`."""

    def step(self, lease: Lease, tokens: Tokens) -> int:
        """See `PrefixCache.step`."""

    def insert(self, lease: Lease, tokens: Tokens, kv: PrefixKV) -> None:
        """See `PrefixCache.insert`."""

    def give_way(self) -> bool:
        """See `PrefixCache.give_way`."""

    def release(self, lease: Lease) -> None:
        """See `PrefixCache.release`."""


class Prefixes(Generic[RequestT]):
    """Leases of the active requests on the KV of their prefixes."""

    def __init__(
        self,
        cache: Cache,
        prefill: Prefill[RequestT],
        config: EngineConfig,
        instances: Instances | None = None,
    ) -> None:
        """Computes prefixes in instances; None: in the worker's thread."""
        self._cache = cache
        self._instances = instances or Instances()
        self._prefill = prefill
        self._limits = PassLimits(config.max_prefill_tokens, config.max_padding_ratio)
        self._leases: dict[RequestT, Lease] = {}
        # Tokens behind the lease, in a pass under way or in one that comes again.
        self._computing: dict[RequestT, Tokens] = {}

    def prepare(self, request: RequestT) -> bool:
        """Leases the prefix as far as it is cached by now; False while a pass under way computes what comes next."""
        if request in self._computing:
            return False
        lease = self._leases.get(request)
        if lease is None:
            lease = self._leases[request] = self.with_room(partial(self._cache.match, request.key))
            request.to_compute -= lease.length
        elif lease.length < request.key.size:
            self.with_room(partial(self._cache.extend, lease, request.key[lease.length :]))
        if not self._computing:
            return True
        rest = self._next(request)[: self._limits.max_tokens]
        alike = (
            tokens for other, tokens in self._computing.items() if self._leases[other].branch == lease.branch
        )
        return not rest.size or not repeats(rest, alike)

    def lease(self, request: RequestT) -> Lease:
        """Gives the lease of a prepared request."""
        return self._leases[request]

    def is_complete(self, request: RequestT) -> bool:
        """Says whether the KV of the whole prefix is there."""
        return self._leases[request].length == request.key.size

    def plan(self, requests: Sequence[RequestT], max_bulk_tokens: int | None) -> Pass[RequestT]:
        """Plans a pass over some prefixes that are not complete; as `Work.plan`."""
        work = []
        for request in requests:
            lease = self._leases[request]
            work.append(PrefixWork(self._next(request), lease.length, lease.branch, request.large))
        takes = plan_prefill(work, replace(self._limits, max_bulk_tokens=max_bulk_tokens))
        return taking_part(requests, takes, takes, self._compute, prefill_size(takes))

    def with_room(self, call: Callable[[], ReturnT]) -> ReturnT:
        """Makes a call that changes nothing where it fails: again while it wants memory that unused KV can give."""
        while True:
            try:
                return call()
            except BackendError as error:
                if not error.wants_memory or not self._cache.give_way():
                    raise
                # What keeps records would keep with the error itself what it passed through.
                _log.warning("KV of prefixes that no request uses gives way: %s", str(error))

    def retire(self, request: RequestT) -> None:
        """Returns the lease, if there is one."""
        self._computing.pop(request, None)
        lease = self._leases.pop(request, None)
        if lease is not None:
            self._cache.release(lease)

    def item_work(self, request: RequestT, items: RunsByLength) -> ItemWork:
        """Tells a plan what is left of the items behind a prefix."""
        return ItemWork(items.remaining, request.key.size, self.lease(request).branch, request.large)

    def by_prefix(
        self, shares: Sequence[tuple[RequestT, int]]
    ) -> tuple[tuple[PrefixPieces, ...], list[tuple[int, RequestT, int]]]:
        """Gives the prefixes of a pass, once each, and its shares in their order, each with its prefix's place."""
        leases = {lease.branch: lease for lease in (self.lease(request) for request, _ in shares)}
        row_of = {branch: row for row, branch in enumerate(leases)}
        placed = ((row_of[self.lease(request).branch], request, count) for request, count in shares)
        return tuple(lease.pieces() for lease in leases.values()), sorted(placed, key=itemgetter(0))

    def _next(self, request: RequestT) -> Tokens:
        """Gives the tokens to be computed next, those behind the lease, or the first of them."""
        lease = self._leases[request]
        rest = request.key[lease.length :]
        return rest[: self._cache.step(lease, rest)]

    def _compute(self, shares: Sequence[tuple[RequestT, int]]) -> UnderWay[RequestT] | None:
        """Computes the next `share` tokens of each request's prefix; where that is done, stores them."""
        leases = [(request, self._leases[request], tokens) for request, tokens in shares]
        parts = [
            Part(request, lease.pieces(), lease.length, lease.length + tokens)
            for request, lease, tokens in leases
        ]
        call = self._prefill(parts)
        if not self._instances.side_by_side:
            self._store(parts, self.with_room(call))
            return None
        future = self._instances.submit(call)
        self._computing.update((part.request, part.key) for part in parts)
        return UnderWay(
            lambda: self._store(parts, future.result()), future, partial(self._again, dict(shares))
        )

    def _again(self, tokens: Mapping[RequestT, int], request: RequestT) -> Pass[RequestT]:
        """Makes the pass of what one request had of one that failed, unless that was stored before it did."""
        takes = (tokens[request],)

        def start() -> UnderWay[RequestT] | None:
            return self._compute([(request, *takes)]) if request in self._computing else None

        return Pass((request,), takes, start, prefill_size(takes))

    def _store(self, parts: Sequence[Part[RequestT]], kvs: PrefixPieces) -> None:
        check_count("prefill", len(kvs), len(parts))
        for part, kv in zip(parts, kvs, strict=True):
            self.with_room(partial(self._cache.insert, self._leases[part.request], part.key, kv))
            self._computing.pop(part.request, None)
            part.request.prefix_tokens_computed += kv.length


def prefill_tokens(compute: Callable[[PrefixBatch], PrefixPieces]) -> Prefill[TokenRequestT]:
    """Has prefixes of tokens computed, those of a pass in one batch."""

    def prefill(parts: Sequence[Part[TokenRequestT]]) -> Callable[[], PrefixPieces]:
        runs = [slice_run(part.request.prefix, part.start, part.end) for part in parts]
        batch = PrefixBatch.of([part.past for part in parts], runs, np.arange(len(parts)))
        return partial(on_device, "prefill", compute, batch)

    return prefill


def prefix_key(run: TokenRun) -> NDArray[np.int64]:
    """Makes the tokens a prefix is cached under: embeddings become negative hashes of their rows. [tokens]"""
    if run.embeddings is None:
        return run.ids
    key = run.ids.copy()
    key[key == EMBEDDED] = [_row_key(row) for row in run.embeddings]
    return key


def slice_run(run: TokenRun, start: int, stop: int) -> TokenRun:
    """Takes the tokens `start` to `stop` of a run, with the embeddings among them."""
    ids = run.ids[start:stop]
    rows = int(np.count_nonzero(ids == EMBEDDED))
    if run.embeddings is None or not rows:
        return TokenRun(ids)
    first = int(np.count_nonzero(run.ids[:start] == EMBEDDED))
    return TokenRun(ids, run.embeddings[first : first + rows])


def _row_key(row: NDArray[np.floating]) -> int:
    digest = int.from_bytes(blake2b(row.tobytes(), digest_size=8).digest(), "little", signed=True)
    return min(digest | -(2**63), EMBEDDED - 1)  # negative, and never EMBEDDED itself
