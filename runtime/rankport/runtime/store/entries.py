"""Items of a token store as they go in and come out: what all kinds of stores take and give."""

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


class Written(NamedTuple):
    """Key of the store."""

    key: str
    mark: bytes  # another where its tokens were written anew
