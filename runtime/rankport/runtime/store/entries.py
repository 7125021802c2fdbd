"""Items of a token store as they go in and come out: what all kinds of stores take and give.

Owns the fence of a write too: a writer that was stopped for long, and wakes up, must not write over what others wrote.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """Item to store."""

    key: str
    tokens: NDArray[np.floating]  # [k, hidden] of the namespace's spec
    content_hash: bytes  # [16] of whatever decides the tokens


@dataclass(frozen=True, slots=True)
class EntryInfo:
    """Facts of a stored item beside its tokens."""

    content_hash: bytes  # [16]
    written_at: datetime  # UTC


@dataclass(frozen=True, slots=True)
class StoredTokens:
    """Tokens of the keys that a store has, of those that were asked for."""

    tokens: NDArray[np.floating]  # [there, k, hidden], read-only
    places: NDArray[np.int64]  # [there] of each among the keys, ascending


Fence = Mapping[str, float]
"""Time by key until which it may be written, by the clock of where it lies; for the namespace that made it alone."""


class LateWriteError(Exception):
    """Write that came after its fence: what was late is not stored."""


def fence_here(keys: Iterable[str], seconds: float) -> Fence:
    """Makes a fence by this machine's clock, which goes on while the machine sleeps."""
    return dict.fromkeys(keys, now_s() + seconds)


def check_in_time(keys: Iterable[str], fence: Fence | None) -> None:
    """Raises `LateWriteError` where the fence of a key, by this machine's clock, has passed."""
    if fence is not None and now_s() >= min((fence[key] for key in keys), default=float("inf")):
        raise LateWriteError


def now_s() -> float:
    """Reads this machine's clock, which goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Written(NamedTuple):
    """Key of the store."""

    key: str
    mark: bytes  # another where its tokens were written anew
