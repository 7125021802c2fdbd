"""`CurrentFile`: the file that stands at a path now, opened anew when another one takes its place.

Owns which file is read: one that replaces another is opened at the next read, one that is gone is read on for a while,
one that was cut or written over is not touched.
"""

import logging
import threading
import time
from pathlib import Path

from rankport.protos.errors import StoreError
from rankport.protos.processes.own_process import OwnProcess
from rankport.runtime.store.snapshot.snapshot_file import SnapshotFile
from rankport.runtime.store.watched_file import FileState

_log = logging.getLogger(__name__)
_RETRY_S = 0.1  # from one try to open another file to the next
_NONE_THERE = "no other one stands there"


class CurrentFile:
    """File at a path. Any thread may call it."""

    def __init__(self, path: Path, swap_s: float) -> None:
        """Opens it. If it goes, it is read on for `swap_s` seconds. Raises `StoreError` as `SnapshotFile`."""
        self._path, self._swap_s = path, swap_s
        self._file: SnapshotFile | None = SnapshotFile(path)
        self._generation = 0
        self._process = OwnProcess()
        self._turn = threading.Lock()
        self._other_since_s: float | None = None
        self._next_try_s = 0.0
        self._refusal = _NONE_THERE
        self._trouble = ""  # as it was logged last

    def get(self) -> SnapshotFile:
        """Returns the file to be read now.

        Raises:
            StoreError: it is cut, written over, or gone for too long; closed; or of before a fork.
        """
        self.check_process()
        file = self._open_file()
        if file.state() is FileState.SAME:
            self._other_since_s = None
            return file
        with self._turn:
            return self._after_change()

    def version(self) -> int:
        """Returns a number that is another one for every other file."""
        return hash((self.get().written_ns, self._generation))

    @property
    def alive(self) -> bool:
        """False where no read would succeed now. Logs when that changes."""
        try:
            self.get()
            trouble = ""
        except StoreError as error:
            trouble = str(error)
        before, self._trouble = self._trouble, trouble
        if trouble and not before and self._file is not None:
            _log.error("%s", trouble)
        elif before and not trouble:
            _log.info("snapshot %s can be read again", self._path)
        return not trouble

    def check_process(self) -> None:
        """Raises `StoreError` in a forked child, before a lock that another thread may have held at the fork."""
        if self._process.forked:
            raise StoreError(f"snapshot {self._path} was opened before a fork: open it in the child process")

    def close(self) -> None:
        """Lets go of the file; reads that are under way end first. Closing twice does nothing."""
        self._file = None

    def _open_file(self) -> SnapshotFile:
        file = self._file
        if file is None:
            raise StoreError(f"snapshot {self._path} is closed: open it again")
        return file

    def _after_change(self) -> SnapshotFile:
        file = self._open_file()
        state = file.state()  # of what another thread has opened meanwhile
        if state is FileState.SAME:
            return file
        now_s = time.monotonic()
        since_s = self._other_since_s = now_s if self._other_since_s is None else self._other_since_s
        if state is FileState.GONE:
            self._refusal = _NONE_THERE
        elif now_s >= self._next_try_s:
            self._next_try_s = now_s + min(_RETRY_S, self._swap_s)
            try:
                return self._take_over(file)
            except StoreError as cause:
                self._refusal = str(cause)
        if state not in (FileState.REPLACED, FileState.GONE) or now_s - since_s >= self._swap_s:
            raise StoreError(
                f"snapshot {self._path} is {state.value} under this process: {self._refusal}. Put another into its "
                "place by renaming, never by writing over it"
            )
        return file

    def _take_over(self, before: SnapshotFile) -> SnapshotFile:
        fresh = SnapshotFile(self._path)
        if (fresh.header.fingerprint, fresh.header.spec) != (before.header.fingerprint, before.header.spec):
            raise StoreError(
                f"the new one has tokens {fresh.header.spec} of encoder {fresh.header.fingerprint}, "
                f"not {before.header.spec} of {before.header.fingerprint}"
            )
        self._file, self._generation, self._other_since_s = fresh, self._generation + 1, None
        _log.warning("snapshot %s was replaced, or is whole again: opened anew", self._path)
        return fresh
