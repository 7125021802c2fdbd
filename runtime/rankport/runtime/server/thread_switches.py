"""`ThreadSwitches`: the time after which threads of this process give way: the shortest of the servers that serve."""

import sys
import threading

_lock = threading.Lock()
_asked_s: list[float] = []  # by the servers of this process, which has one such time
_before_s: list[float] = []  # what it was before the first of them, where there is one


class ThreadSwitches:
    """Interval that one server asks for, while it serves."""

    def __init__(self, interval_s: float | None) -> None:
        """None asks for nothing."""
        self._interval_s = interval_s
        self._asks = False

    def shorten(self) -> None:
        """Asks from now on."""
        with _lock:
            if self._interval_s is None or self._asks:
                return
            if not _asked_s:
                _before_s[:] = [sys.getswitchinterval()]
            self._asks = True
            _asked_s.append(self._interval_s)
            sys.setswitchinterval(min(_asked_s))

    def restore(self) -> None:
        """Asks no more: once no server does, the time is as it was before."""
        with _lock:
            if self._interval_s is None or not self._asks:
                return
            self._asks = False
            _asked_s.remove(self._interval_s)
            sys.setswitchinterval(min(_asked_s or _before_s))
