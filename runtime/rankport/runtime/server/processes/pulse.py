"""`Pulse`: signs of life of two processes, in memory that both have: silence is all that a process that hangs tells.

Only numbers that change are compared, never clocks, and silence is counted in looks: who was halted itself, or is on a
machine that was, has not looked meanwhile.
"""

import mmap
import os
import struct
import threading
import time
from collections.abc import Callable

BEAT_S = 0.25
"""Time between two beats, and between two looks."""
_NUMBER = struct.Struct("@Q")
_PLACES = (0, 64)  # of the beats of a child, and of its supervisor


class Pulse:
    """One end. It has no name in the file system, and lives as long as one of the two processes."""

    def __init__(self, fd: int, *, of_child: bool) -> None:
        """Maps the memory of a descriptor, which its owner may close then."""
        self._map = mmap.mmap(fd, mmap.PAGESIZE)
        self._own, self._other = _PLACES if of_child else _PLACES[::-1]
        self._count = 0

    @staticmethod
    def memory() -> int:
        """Makes memory for both ends, and returns its descriptor."""
        fd = os.memfd_create("rankport-pulse", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, mmap.PAGESIZE)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def beat(self) -> None:
        """Gives a sign of life."""
        self._count += 1
        _NUMBER.pack_into(self._map, self._own, self._count)

    def heard(self) -> int:
        """Tells how many the other end has given."""
        number: int = _NUMBER.unpack_from(self._map, self._other)[0]
        return number


def all_of(elapsed_s: float) -> float:
    """Counts a time in full."""
    return elapsed_s


class Silence:
    """Time for which an end gave no sign, as who looks every `BEAT_S` saw it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._looked_s = clock, clock()
        self._beats = 0
        self.seconds = 0.0

    def look(self, beats: int, counted: Callable[[float], float] = all_of) -> float:
        """Takes the beats so far, and returns the silence in seconds.

        `counted` says how much of the time since the last look counts. A look that comes late counts as two.
        """
        now_s = self._clock()
        elapsed_s, self._looked_s = min(now_s - self._looked_s, 2 * BEAT_S), now_s
        if beats != self._beats:
            self._beats, self.seconds = beats, 0.0
        else:
            self.seconds += counted(elapsed_s)
        return self.seconds


class Heart:
    """Thread of a child that beats as long as the child goes on, and hears whether its supervisor does."""

    def __init__(self, pulse: Pulse) -> None:
        """Begins to beat."""
        self._pulse, self._supervisor = pulse, Silence()
        self.goes_on: Callable[[], bool] = lambda: True  # asked before each beat
        threading.Thread(target=self._run, name="rankport-heart", daemon=True).start()

    @property
    def supervisor_silent_s(self) -> float:
        """Time for which the supervisor gave no sign."""
        return self._supervisor.seconds

    def _run(self) -> None:
        while True:
            time.sleep(BEAT_S)
            if self.goes_on():
                self._pulse.beat()
            self._supervisor.look(self._pulse.heard())
