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
from rankport.protos.processes.own_process import OwnProcess
from rankport.runtime.backends.contract import TokenTable
from rankport.runtime.store.contract import TokenNamespace, Written
from rankport.runtime.tokens import ResidentItems

_log = logging.getLogger(__name__)
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class OwnedTable:
    """Table, and how to have something done by the thread that owns its device."""

    table: TokenTable
    call: Callable[[Callable[[], None]], "Future[None]"]


@dataclass(slots=True, weakref_slot=True, eq=False)
class _Catalogue:
    """Slots by key. Keys are added to it; without some of them it is another one."""

    slots: dict[str, int]


@dataclass(slots=True)
class _Entry:
    mark: bytes  # of the tokens that its slot holds
    scan: int  # of the store, that saw it last


class ResidentTokens:
    """Tokens of as many items as there is room for, from the first key of the store on. Any thread may call `find`."""

    def __init__(self, namespace: TokenNamespace, tables: Mapping[int, OwnedTable], refresh_s: float) -> None:
        """Copies what the store has, into the table of each GPU alike, and looks for changes every `refresh_s` seconds.

        Raises:
            StoreError: the store cannot be read.
            BackendError: a device failed.
            Unavailable: no engine runs any more.
        """
        self._namespace, self._tables = namespace, dict(tables)
        self._tokens_an_item = namespace.spec.tokens
        capacity = min(owned.table.rows for owned in tables.values()) // self._tokens_an_item
        self._catalogue = _Catalogue({})
        self._entries: dict[str, _Entry] = {}
        self._free: deque[int] = deque(range(capacity))
        # Slots to be free again once nobody refers to the catalogue that had them, nor to an older one.
        self._retired: deque[tuple[weakref.ref[_Catalogue], list[int]]] = deque()
        self._scans = itertools.count(1)
        self._version: int | None = None  # of the store, at the last scan that came to its end
        self._left_out = False  # items then, for want of capacity
        self._closing = threading.Event()
        self._process = OwnProcess()
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
        """Counts the items in the tables."""
        return len(self._catalogue.slots)

    @property
    def scanned_version(self) -> int | None:
        """Version of the store that the last scan which came to its end has seen; None while there is none."""
        return self._version

    @property
    def alive(self) -> bool:
        """True where it still looks for changes: False once it is closed, or no engine runs any more."""
        return self._thread.is_alive()

    def find(self, keys: Sequence[str], places: NDArray[np.int64]) -> ResidentItems | None:
        """Finds where the tokens of those keys lie that are in the tables, each with its place in a request. [keys]"""
        catalogue = self._catalogue
        slots = np.fromiter((catalogue.slots.get(key, -1) for key in keys), np.int64, len(keys))
        there = slots >= 0
        if not there.all():
            slots, places = slots[there], places[there]
        if not len(places):
            return None
        rows = slots[:, None] * self._tokens_an_item + np.arange(self._tokens_an_item)
        return ResidentItems(rows, places, catalogue)

    def close(self) -> None:
        """Ends the thread. What was found stays valid. In a forked child, where there is none, it does nothing."""
        if self._process.forked:
            return
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
        gained = self._reclaim()
        if version == self._version and not (gained and self._left_out):
            return
        self._version = None
        scan, left_out = next(self._scans), False
        for page in self._namespace.pages():
            begun_s = time.perf_counter()
            left_out |= not self._take(page, scan)
            if self._closing.wait(patience * (time.perf_counter() - begun_s)):
                return
        self._retire([key for key, entry in self._entries.items() if entry.scan != scan])
        # The one from before the scan: what changed meanwhile is seen by the next.
        self._version, self._left_out = version, left_out

    def _take(self, page: Sequence[Written], scan: int) -> bool:
        """Writes what is new or other than before. False if there was no slot for some."""
        marks: dict[str, bytes] = {}  # of what is to be written
        fresh: dict[str, int] = {}  # slots of those that had none
        left_out = False
        for key, mark in page:
            entry = self._entries.get(key)
            if entry is not None and entry.mark == mark:
                entry.scan = scan
                continue
            if entry is None:
                if len(fresh) == len(self._free):
                    left_out = True
                    continue
                fresh[key] = self._free[len(fresh)]
            marks[key] = mark
        if not marks:
            return not left_out
        # What cannot be read is retired after this scan: whoever asks for it is told by the store what is wrong.
        read = self._namespace.get_many(list(marks), skip_corrupt=True)
        tokens = {key: rows for key, rows in zip(marks, read, strict=True) if rows is not None}
        slots = {key: fresh[key] if key in fresh else self._catalogue.slots[key] for key in tokens}
        self._write({slots[key]: rows for key, rows in tokens.items()})
        for key in fresh:
            self._free.popleft()
            if key not in tokens:
                self._free.append(fresh[key])
        for key, slot in slots.items():
            self._entries[key] = _Entry(marks[key], scan)
            self._catalogue.slots[key] = slot
        return not left_out

    def _write(self, tokens: dict[int, NDArray[np.floating]]) -> None:
        """Writes by slot; slots beside each other by one copy. An engine that has stopped is left out from then on."""
        writes = []
        for first, count in _runs(sorted(tokens)):
            rows = np.concatenate([tokens[slot] for slot in range(first, first + count)])
            writes.append((first * self._tokens_an_item, rows))
        done: dict[int, Future[None]] = {}
        for gpu, owned in [*self._tables.items()]:
            with self._left_if_stopped(gpu):
                done[gpu] = owned.call(partial(_write_all, owned.table, writes))
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
        """Waits, also while an engine is closed from its own thread, which then does nothing else any more."""
        while not done.done():
            if self._closing.is_set():
                raise Unavailable("the ranker is closed")
            wait([done], _POLL_S)
        done.result()

    def _retire(self, keys: Sequence[str]) -> None:
        """Retires keys that the store no longer has."""
        if not keys:
            return
        before, slots = self._catalogue, dict(self._catalogue.slots)
        retired = [slots.pop(key) for key in keys]
        for key in keys:
            del self._entries[key]
        self._catalogue = _Catalogue(slots)
        self._retired.append((weakref.ref(before), retired))

    def _reclaim(self) -> bool:
        """Says whether there are more free slots now."""
        had = len(self._free)
        while self._retired and self._retired[0][0]() is None:
            self._free.extend(self._retired.popleft()[1])
        return len(self._free) > had


def _write_all(table: TokenTable, writes: Sequence[tuple[int, NDArray[np.floating]]]) -> None:
    for row, rows in writes:
        table.write(row, rows)


def _runs(slots: Sequence[int]) -> list[tuple[int, int]]:
    """Groups ascending slots as (first, count) of those beside each other."""
    runs: list[tuple[int, int]] = []
    for slot in slots:
        if runs and sum(runs[-1]) == slot:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((slot, 1))
    return runs
