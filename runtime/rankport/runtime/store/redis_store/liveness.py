"""`Liveness`: the last look at whether the tokens of an encoder can be read. Who asks does not wait for a network."""

import logging
import threading
import time
from collections.abc import Callable

_log = logging.getLogger(__name__)
_LOOK_S = 1.0  # between two looks
_WAIT_S = 0.05  # for a look's end: the event loop of a server asks, and a Redis that is silent takes seconds
_KNOWN_S = 5.0  # for which the end of a look counts: who asks less often waits for the next one's


class Liveness:
    """Looks once a second at most, in a thread of each look's own, while somebody asks. Any thread may."""

    def __init__(
        self, look: Callable[[], str], told: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`look` returns what is the trouble, "" for none, as there is now; `told` names Redis in the log."""
        self._look, self._told, self._clock = look, told, clock
        self._lock = threading.Lock()  # guards the beginning of a look
        self._began_s, self._known_s = float("-inf"), clock()
        self._ended = threading.Event()
        self._ended.set()
        self._trouble = ""

    def good(self) -> bool:
        """Says whether the last look found no trouble; of one that takes its time the one before, if it is of late."""
        now_s = self._clock()
        with self._lock:
            due = self._ended.is_set() and now_s - self._began_s >= _LOOK_S
            if due:
                self._began_s = now_s
                self._ended.clear()
        if due:
            self._begin()
            self._ended.wait(_WAIT_S if now_s - self._known_s <= _KNOWN_S else None)
        return not self._trouble

    def _begin(self) -> None:
        try:
            threading.Thread(target=self._run, name="rankport-redis-look", daemon=True).start()
        except RuntimeError as error:  # of threads; the next one may be
            _log.error("%s is not looked at now: %s", self._told, error)
            self._ended.set()

    def _run(self) -> None:
        before = self._trouble
        try:
            self._trouble = self._look()
        except Exception as error:  # its connection was closed meanwhile, say
            self._trouble = f"{self._told}: {error}"
        self._known_s = self._clock()
        self._ended.set()
        if self._trouble and not before:
            _log.error("%s", self._trouble)
        elif before and not self._trouble:
            _log.info("%s can be read again", self._told)
