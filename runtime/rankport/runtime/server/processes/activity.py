"""`Activity`: what a process could have done in a time, as the kernel tells of its threads."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
# Ready for a core, in a wait for a disk, held by a debugger: not its own doing.
_HELD_UP = frozenset("RDt")


class Activity:
    """Activity of one process, looked at now and then."""

    def __init__(self, pid: int) -> None:
        self._threads = Path(f"/proc/{pid}/task")
        self._used_s = 0.0

    def idle_s(self, elapsed_s: float) -> float:
        """Gives a time in full if no thread was held up at its end, else none of it: it may yet get on."""
        return 0.0 if self._held_up() else elapsed_s

    def able_s(self, elapsed_s: float) -> float:
        """Gives a time in full if no thread was held up at its end, else what the process had of a core."""
        before_s = self._used_s
        held_up = self._held_up()
        return min(elapsed_s, max(0.0, self._used_s - before_s)) if held_up else elapsed_s

    def _held_up(self) -> bool:
        """Looks at all threads, and notes the processor time of their process."""
        states, self._used_s = "", 0.0
        for fields in self._stats():
            states += fields[0]
            self._used_s += (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND
        return not _HELD_UP.isdisjoint(states)

    def _stats(self) -> Iterator[list[str]]:
        """Gives what is told of each thread behind its name; nothing where the kernel tells nothing."""
        with suppress(OSError):
            for thread in list(self._threads.iterdir()):
                with suppress(OSError):  # of one that has ended meanwhile
                    yield (thread / "stat").read_text().rpartition(")")[2].split()
