"""Numbers of passes that are worth a recording, as they come again; what became of them is counted.

Records nothing: that is the graph's.
"""

import itertools
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rankport.runtime.backends.contract import RecordingCounts

_MOST_RARE = 4096


@dataclass(slots=True)
class _OfRole:
    """Passes of a role at the addresses it has now, as far as they are known."""

    addresses: tuple[int, ...]
    seen: dict[Hashable, int] = field(default_factory=dict)
    numbers: dict[Hashable, int] = field(default_factory=dict)


class Recordings:
    """Numbers for passes that come again with equal shapes at equal addresses, and the count of what became of them."""

    def __init__(self, after: int = 2, most: int = 160) -> None:
        self._after, self._most = after, most
        self._at_once = False
        self._next = itertools.count()
        self._roles: dict[str, _OfRole] = {}
        self._recorded: set[int] = set()
        self._launched = self._replayed = 0
        self._recording_s = 0.0

    @property
    def counts(self) -> RecordingCounts:
        """Counts of the passes so far; any thread may ask."""
        return RecordingCounts(self._launched, len(self._recorded), self._replayed, self._recording_s)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Numbers passes that come within the block the first time."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    @contextmanager
    def counted(self, number: int | None) -> Iterator[None]:
        """Counts the pass that the block starts by its number. One that fails counts for nothing."""
        begun = time.perf_counter()
        yield
        if number is None:
            self._launched += 1
        elif number in self._recorded:
            self._replayed += 1
        else:
            self._recorded.add(number)
            self._recording_s += time.perf_counter() - begun

    def number(self, role: str, sizes: Hashable, addresses: tuple[int, ...]) -> int | None:
        """Numbers a pass that was seen `after` times before, or `at_once`; None if it is rare, or `most` are numbered.

        No number is given twice: what was recorded at addresses that are left behind is never replayed.
        """
        known = self._roles.get(role)
        if known is None or known.addresses != addresses:
            known = self._roles[role] = _OfRole(addresses)
        if sizes in known.numbers:
            return known.numbers[sizes]
        if len(known.seen) >= _MOST_RARE:
            known.seen.clear()
        known.seen[sizes] = known.seen.get(sizes, 0) + 1
        rare = known.seen[sizes] <= self._after and not self._at_once
        if rare or len(known.numbers) >= self._most:
            return None
        del known.seen[sizes]
        known.numbers[sizes] = next(self._next)
        return known.numbers[sizes]
