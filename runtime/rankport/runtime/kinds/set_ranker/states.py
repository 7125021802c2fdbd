"""States of histories: keys and values of events, kept in the prefix cache under the events themselves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixKV
from rankport.runtime.scheduling.prefix_cache import CacheStats, Lease, PrefixCache

Layer = NDArray[np.float32]
_MOST_EVENTS = 1_000_000


@dataclass(frozen=True, slots=True)
class StatePiece:
    """Keys and values of consecutive events."""

    layers: tuple[Layer, ...]  # key 0, value 0, key 1, ...: each [heads, events, head_dim]

    @property
    def length(self) -> int:
        """Events covered."""
        return int(self.layers[0].shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(layer.nbytes for layer in self.layers)


class HistoryStates:
    """States by events. Driven by one thread.

    The prefix cache compares tokens; here an event is the token that its bytes (ids, features, time) were given first.
    Names are never reused: beyond `_MOST_EVENTS` of them cache and names begin anew.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._names: dict[bytes, int] = {}
        self._cache = PrefixCache(budget_bytes, _split)
        self._past = CacheStats(0, 0, 0, 0, 0, 0, 0, 0)

    def tokens(self, identity: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Names events, of their bytes [events, bytes]. Not while a lease is held."""
        if len(self._names) + len(identity) > _MOST_EVENTS:
            self._names.clear()
            self._past = CacheStats.total([self._past, self._cache.stats()])
            self._cache = PrefixCache(self._budget_bytes, _split)
        names = self._names
        return np.array([names.setdefault(event.tobytes(), len(names)) for event in identity], np.int64)

    def match(self, tokens: NDArray[np.int64]) -> Lease:
        """Pins the longest start of events whose state is kept."""
        return self._cache.match(tokens)

    def insert(self, lease: Lease, tokens: NDArray[np.int64], piece: StatePiece) -> None:
        """Adds the state of the events right after the lease, which covers them from now on."""
        self._cache.insert(lease, tokens, piece)

    def release(self, lease: Lease) -> None:
        """Unpins."""
        self._cache.release(lease)

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


def joined(pieces: Sequence[PrefixKV], shapes: Sequence[tuple[int, int]]) -> list[Layer]:
    """Joins pieces to keys and values [heads, events, head_dim], two a layer, of (heads, head_dim) as `shapes`."""
    parts = [piece.layers for piece in pieces if isinstance(piece, StatePiece)]
    if len(parts) == 1:
        return list(parts[0])
    if not parts:
        return [np.zeros((heads, 0, width), np.float32) for heads, width in shapes for _ in range(2)]
    return [np.concatenate(layers, axis=1) for layers in zip(*parts, strict=True)]


def _split(kv: PrefixKV, length: int) -> tuple[StatePiece, StatePiece]:
    assert isinstance(kv, StatePiece)
    head = tuple(layer[:, :length].copy() for layer in kv.layers)
    return StatePiece(head), StatePiece(tuple(layer[:, length:].copy() for layer in kv.layers))
