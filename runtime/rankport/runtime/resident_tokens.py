"""Embedding tokens of a catalogue in the memory of devices: which item lies where, kept as the store has them.

Owns the room and who has it, and a thread that looks at the store now and then. The memory is a backend's
(`TokenTable`); writes to it go through the engine that owns the device, between two passes.
"""

import itertools
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import RankportError, Unavailable
from rankport.runtime.backends.base import Resident, TokenTable
from rankport.runtime.token_namespace import TokenNamespace, Written

_log = logging.getLogger(__name__)
_LOOK_UP_S = 0.05


@dataclass(frozen=True, slots=True)
class TablePlace:
    """A table, and how to have something done by the thread that owns its device."""

    table: TokenTable
    call: Callable[[Callable[[], None]], "Future[None]"]


@dataclass(slots=True, weakref_slot=True, eq=False)
class _Catalogue:
    """Places by key. Keys are added to it; without some of them it is another one."""

    places: dict[str, int]


@dataclass(slots=True)
class _Entry:
    place: int
    mark: bytes
    look: int  # at the store, that saw it last


class ResidentTokens:
    """Tokens of as many items as there is room for, from the first key of the store on. Any thread may call `find`."""

    def __init__(self, namespace: TokenNamespace, tables: Mapping[int, TablePlace], refresh_s: float) -> None:
        """Copies what the store has, into the table of each GPU alike, and looks for changes every `refresh_s` seconds.

        Raises:
            StoreError: the store cannot be read.
            BackendError: a device failed.
            Unavailable: no engine runs any more.
        """
        self._namespace, self._tables = namespace, dict(tables)
        self._tokens_an_item = namespace.spec.tokens
        self._room = min(place.table.rows for place in tables.values()) // self._tokens_an_item
        self._catalogue = _Catalogue({})
        self._entries: dict[str, _Entry] = {}
        self._free: deque[int] = deque(range(self._room))
        # Places that were given up, once nobody refers to the catalogue that had them, nor to an older one.
        self._given_up: deque[tuple[weakref.ref[_Catalogue], list[int]]] = deque()
        self._looks = itertools.count(1)
        self._version: int | None = None  # of the store, at the last look that came to its end
        self._left_out = False  # items then, for want of room
        self._closing = threading.Event()
        begun_s = time.perf_counter()
        self._refresh(patience=0.0)
        _log.info(
            "%d of %d items of encoder %s in device memory after %.1f s",
            len(self),
            len(namespace),
            namespace.fingerprint,
            time.perf_counter() - begun_s,
        )
        self._thread = threading.Thread(
            target=self._run, args=(refresh_s,), name="rankport-resident-tokens", daemon=True
        )
        self._thread.start()

    def __len__(self) -> int:
        """Items in the tables."""
        return len(self._catalogue.places)

    def find(self, keys: Sequence[str]) -> list[Resident | None]:
        """Where the tokens of each key lie; None where they do not."""
        catalogue = self._catalogue
        places = [catalogue.places.get(key, -1) for key in keys]
        first = np.array(places, np.int64)[:, None] * self._tokens_an_item
        rows = first + np.arange(self._tokens_an_item)
        return [
            None if place < 0 else Resident(own, catalogue) for place, own in zip(places, rows, strict=True)
        ]

    def close(self) -> None:
        """Ends the thread. What was found stays valid."""
        self._closing.set()
        self._thread.join()

    def _run(self, refresh_s: float) -> None:
        while not self._closing.wait(refresh_s):
            try:
                self._refresh(patience=1.0)
            except Unavailable:
                return
            except RankportError as error:
                _log.warning("tokens in device memory could not be compared with the store: %s", error)

    def _refresh(self, *, patience: float) -> None:
        """Brings the tables to what the store has, resting `patience` times as long as it works."""
        version = self._namespace.version()
        gained = self._take_back()
        if version == self._version and not (gained and self._left_out):
            return
        self._version = None
        look, left_out = next(self._looks), False
        for page in self._namespace.pages():
            begun_s = time.perf_counter()
            left_out |= not self._take(page, look)
            if self._closing.wait(patience * (time.perf_counter() - begun_s)):
                return
        self._give_up([key for key, entry in self._entries.items() if entry.look != look])
        # The one from before the look: what changed meanwhile is seen by the next.
        self._version, self._left_out = version, left_out

    def _take(self, page: Sequence[Written], look: int) -> bool:
        """Writes what is new or other than before. False if there was no room for some."""
        fresh: dict[str, _Entry] = {}
        stale: dict[str, _Entry] = {}
        left_out = False
        for key, mark in page:
            entry = self._entries.get(key)
            if entry is not None and entry.mark == mark:
                entry.look = look
            elif entry is not None:
                stale[key] = _Entry(entry.place, mark, look)
            elif len(fresh) < len(self._free):
                fresh[key] = _Entry(self._free[len(fresh)], mark, look)
            else:
                left_out = True
        changed = fresh | stale
        if not changed:
            return not left_out
        # What cannot be read is given up after this look: whoever asks for it is told by the store what is wrong.
        read = self._namespace.get_many(list(changed), skip_corrupt=True)
        tokens = {key: rows for key, rows in zip(changed, read, strict=True) if rows is not None}
        self._write({changed[key].place: rows for key, rows in tokens.items()})
        for _ in fresh:
            self._free.popleft()
        for key, entry in changed.items():
            if key in tokens:
                self._entries[key] = entry
                self._catalogue.places[key] = entry.place
            elif key in fresh:
                self._free.append(entry.place)
        return not left_out

    def _write(self, tokens: dict[int, NDArray[np.floating]]) -> None:
        """By place; places beside each other by one copy. An engine that has stopped is left out from then on."""
        writes = []
        for first, count in _runs(sorted(tokens)):
            rows = np.concatenate([tokens[place] for place in range(first, first + count)])
            writes.append((first * self._tokens_an_item, rows))
        done: dict[int, Future[None]] = {}
        for gpu, place in [*self._tables.items()]:
            with self._left_if_stopped(gpu):
                done[gpu] = place.call(partial(_write_all, place.table, writes))
        for gpu, future in done.items():
            with self._left_if_stopped(gpu):
                self._wait(future)

    @contextmanager
    def _left_if_stopped(self, gpu: int) -> Iterator[None]:
        try:
            yield
        except Unavailable as error:
            if self._closing.is_set() or len(self._tables) == 1:
                raise
            del self._tables[gpu]
            _log.warning("tokens in the memory of GPU %d are no longer kept: %s", gpu, error)

    def _wait(self, done: "Future[None]") -> None:
        """Also while an engine is closed from its own thread, which then does nothing else any more."""
        while not done.done():
            if self._closing.is_set():
                raise Unavailable("the ranker is closed")
            wait([done], _LOOK_UP_S)
        done.result()

    def _give_up(self, keys: Sequence[str]) -> None:
        """Keys that the store no longer has."""
        if not keys:
            return
        before, places = self._catalogue, dict(self._catalogue.places)
        given_up = [self._entries.pop(key).place for key in keys]
        for key in keys:
            del places[key]
        self._catalogue = _Catalogue(places)
        self._given_up.append((weakref.ref(before), given_up))

    def _take_back(self) -> bool:
        """Whether there is more room now."""
        had = len(self._free)
        while self._given_up and self._given_up[0][0]() is None:
            self._free.extend(self._given_up.popleft()[1])
        return len(self._free) > had


def _write_all(table: TokenTable, writes: Sequence[tuple[int, NDArray[np.floating]]]) -> None:
    for row, rows in writes:
        table.write(row, rows)


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending places as (first, count) of those beside each other."""
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and sum(runs[-1]) == place:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((place, 1))
    return runs
