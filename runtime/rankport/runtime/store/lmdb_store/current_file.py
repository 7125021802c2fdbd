"""`CurrentFile`: the file of an environment that is open, and when another that stands in its place is opened.

One that was cut short is not touched. `data_file` watches the file, transactions are `environment`'s.
"""

import logging
import threading
import time
from collections.abc import Callable

import lmdb

from rankport.protos.errors import StoreError
from rankport.runtime.store.lmdb_store import causes
from rankport.runtime.store.lmdb_store.data_file import DATA
from rankport.runtime.store.lmdb_store.gate import Gate
from rankport.runtime.store.lmdb_store.open_file import OpenFile, Opening
from rankport.runtime.store.watched_file import FileState

Accept = Callable[[OpenFile], None]

_log = logging.getLogger(__name__)
_RETRY_S = 0.1  # from one try to open another file to the next
_NONE_THERE = "no other one stands there"


class CurrentFile:
    """File that is open now; another one only while nobody is inside the gate. Any thread may call it."""

    def __init__(self, file: OpenFile, opening: Opening, accept: Accept, gate: Gate) -> None:
        """`accept` checks a file that later stands in the place of `file`."""
        self.file = file
        self.generation = 0  # how many files came before it
        self._opening, self._accept, self._gate = opening, accept, gate
        self._reopening = threading.Lock()
        self._other_since_s: float | None = None  # that another file is there, or none
        self._next_try_s = 0.0
        self._refusal = _NONE_THERE  # of another file, the last time

    def look(self, *, write: bool) -> None:
        """Makes sure that the file is the one in the directory, or that the one before it may still be read.

        Raises `StoreError` where neither holds. Nobody who calls it is inside the gate.
        """
        state = self.file.data.look()
        if state is FileState.SAME and self.file.whole:
            self._other_since_s = None
            return
        if not (self._opening.read_only or self._opening.follow):
            self._check_in_place()
        with self._reopening:
            self._reopen(write)

    def _check_in_place(self) -> None:
        if (state := self.file.data.look()) is not FileState.SAME:
            raise causes.not_in_place(self._opening.path, state)

    def _reopen(self, write: bool) -> None:
        state = self.file.data.look()  # of what another thread has opened meanwhile
        if state is FileState.SAME and self.file.whole:
            return
        now_s = time.monotonic()
        since_s = self._other_since_s = now_s if self._other_since_s is None else self._other_since_s
        readable = not write and state in (FileState.REPLACED, FileState.GONE) and self.file.whole
        if state is FileState.GONE:
            self._refusal = _NONE_THERE
        elif now_s >= self._next_try_s:
            self._next_try_s = now_s + min(_RETRY_S, self._opening.swap_s)
            try:
                self._take_over(state)
                return
            except (StoreError, lmdb.Error, OSError) as cause:
                self._refusal = str(cause)
        if not readable or now_s - since_s >= self._opening.swap_s:
            raise StoreError(
                f"token store {self._opening.path} is {state.value} under this process: {self._refusal}. Put a store "
                "into its place by renaming a directory, never by writing over its files"
            )

    def _take_over(self, state: FileState) -> None:
        """Opens the file that is there now in the place of the one that was open."""
        with self._gate.alone():
            before = self.file
            if state is not FileState.REPLACED:
                before.close()  # the same file again, which LMDB opens once
            if not (self._opening.path / DATA).stat().st_size:
                raise StoreError(f"{DATA} is empty")  # LMDB would begin a store in it
            fresh = OpenFile.open(self._opening)
            try:
                self._accept(fresh)
                for name in before.handles:
                    fresh.open_db(name)
            except BaseException:
                fresh.close()
                raise
            before.close()
            self.file, self.generation = fresh, self.generation + 1
            self._other_since_s, self._next_try_s = None, 0.0
        _log.warning("token store %s was replaced, or is whole again: opened anew", self._opening.path)
