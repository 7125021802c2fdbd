"""`NamedItems`: keys whose tokens lie on the device of another process, which is told the keys and finds the rows.

Owns what that process said it has not, so that these are read from the store at once. All of it may be forgotten: who
names a key without tokens there is told so, and asks again with them.
"""

import time
from collections.abc import Callable, Iterable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.tokens import ResidentItems

_MAX_ABSENT = 2**17  # keys that are remembered
_READERS = 4  # threads that read the store for requests that are sent again


class NamedItems:
    """The catalogue of a device as the models of another process know it. Any thread may call it."""

    def __init__(
        self,
        tokens_an_item: int,
        kept: Callable[[], int],
        refresh_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`kept` counts the items on the device, which looks for new ones every `refresh_s` seconds."""
        self._tokens_an_item, self._kept, self._refresh_s = tokens_an_item, kept, refresh_s
        self._clock = clock
        self._absent: set[str] = set()
        self._forget_s = 0.0  # when an absent key may be there
        # Goes on with requests whose keys are absent, apart from the thread that receives answers.
        self.executor = ThreadPoolExecutor(_READERS, "rankport-absent-tokens")

    def __len__(self) -> int:
        """Counts the items on the device."""
        return self._kept()

    def find(
        self, keys: Sequence[str], places: NDArray[np.int64], absent: Set[str] = frozenset()
    ) -> ResidentItems | None:
        """Names those of the keys whose tokens may be there, each with its place in a request. [keys]

        None of those that are `absent`, as whoever asks was told.
        """
        known = self._absent
        if known and self._clock() > self._forget_s:
            known = self._absent = set()
        if known or absent:
            there = np.fromiter((key not in known and key not in absent for key in keys), np.bool_, len(keys))
            keys, places = [keys[index] for index in np.flatnonzero(there).tolist()], places[there]
        if not len(places):
            return None
        rows = np.arange(len(places) * self._tokens_an_item).reshape(-1, self._tokens_an_item)
        return ResidentItems(rows, places, None, keys)

    def learn_absent(self, keys: Iterable[str]) -> None:
        """Remembers keys whose tokens are not there, until the device has looked for new ones."""
        if not self._absent or len(self._absent) > _MAX_ABSENT:
            self._absent, self._forget_s = set(), self._clock() + self._refresh_s
        self._absent.update(keys)

    def close(self) -> None:
        """Goes on with no more requests."""
        self.executor.shutdown(wait=False, cancel_futures=True)
