"""Tables of token embeddings in host memory, and where an item lies in them."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import Unavailable
from rankport.runtime.store.device_catalogue import ResidentTokens

HIDDEN = 3  # values of a token


class Table:
    """`TokenTable` of host memory, whose thread is whoever writes."""

    def __init__(self, rows: int) -> None:
        self.values = np.full((rows, HIDDEN), np.nan, np.float32)
        self.writes = self.calls = 0
        self.closed = self.stuck = False
        self.fails: Exception | None = None

    @property
    def rows(self) -> int:
        return len(self.values)

    def write(self, row: int, tokens: NDArray[np.floating]) -> None:
        assert row + len(tokens) <= self.rows
        self.values[row : row + len(tokens)] = tokens
        self.writes += 1

    def call(self, step: Callable[[], None]) -> "Future[None]":
        self.calls += 1
        if self.closed:
            raise Unavailable("closed")
        future: Future[None] = Future()
        if self.fails is not None:
            future.set_exception(self.fails)
        elif not self.stuck:
            step()
            future.set_result(None)
        return future

    def holds(self, item: "Found | None") -> NDArray[np.float32]:
        assert item is not None
        return self.values[item.rows]


@dataclass(frozen=True)
class Found:
    """Place of one item, for as long as somebody refers to this."""

    rows: NDArray[np.int64]
    kept: object


def find(resident: ResidentTokens, keys: list[str]) -> list[Found | None]:
    """Looks up where each key lies; None where it does not."""
    residents = resident.find(keys, np.arange(len(keys)))
    found: list[Found | None] = [None] * len(keys)
    if residents is not None:
        for place, rows in zip(residents.places, residents.rows, strict=True):
            found[place] = Found(rows, residents.kept)
    return found
