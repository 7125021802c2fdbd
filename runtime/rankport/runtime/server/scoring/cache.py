"""`ScoreCache`: scores of items by all that they depend on, within a budget of bytes; the least recently used go first.

Owns what is kept. What a score depends on, `keys` knows; what becomes of a request, `cached`.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rankport.protos.types import ItemStatus

# Of an entry with its key, the objects that it is made of and its place in the table, by measurement.
_OVERHEAD_BYTES = 320


@dataclass(frozen=True, slots=True)
class CachedScore:
    """Score of an item, and what was said of it."""

    score: float
    logits: bytes  # float32 [labels]
    status: ItemStatus
    message: str

    @property
    def nbytes(self) -> int:
        """Bytes that it takes beside what every entry does."""
        return len(self.logits) + 2 * len(self.message)


@dataclass(frozen=True, slots=True)
class ScoreCacheCounts:
    """Counters of a cache since its start, and what it has now."""

    hits: int
    misses: int
    entries: int
    nbytes: int


class ScoreCache:
    """Scores by key. Any thread may call it."""

    def __init__(self, max_bytes: int) -> None:
        """Keeps at most `max_bytes`, by an estimate of what an entry takes."""
        self._max_bytes = max_bytes
        self._nbytes = self._hits = self._misses = 0
        self._scores: OrderedDict[bytes, CachedScore] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, keys: Sequence[bytes | None]) -> list[CachedScore | None]:
        """Finds the scores of keys; None where there is none, or no key."""
        with self._lock:
            found = [None if key is None else self._scores.get(key) for key in keys]
            for key, score in zip(keys, found, strict=True):
                if key is not None and score is not None:
                    self._scores.move_to_end(key)
            hits = len(found) - found.count(None)
            self._hits += hits
            self._misses += len(found) - hits
        return found

    def put(self, scores: Mapping[bytes, CachedScore]) -> None:
        """Keeps scores, and drops others for them."""
        with self._lock:
            for key, score in scores.items():
                old = self._scores.pop(key, None)
                self._nbytes += _nbytes(score) - (0 if old is None else _nbytes(old))
                self._scores[key] = score
            while self._nbytes > self._max_bytes:
                self._nbytes -= _nbytes(self._scores.popitem(last=False)[1])

    def counts(self) -> ScoreCacheCounts:
        """Returns a snapshot of the counters."""
        with self._lock:
            return ScoreCacheCounts(self._hits, self._misses, len(self._scores), self._nbytes)


def _nbytes(score: CachedScore) -> int:
    return _OVERHEAD_BYTES + score.nbytes
