"""`Watch`: ends children of a supervisor that hang, as the silence of their `Pulse` tells: they are started again."""

import logging
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rankport.runtime.server.processes.activity import Activity
from rankport.runtime.server.processes.child_process import ChildProcess
from rankport.runtime.server.processes.pulse import BEAT_S, Silence

_log = logging.getLogger(__name__)
_STARTING = 6  # times as long may a child be silent that loads, in calls that let no other thread go on
_TELLS_S = 0.5  # for a child to write where its threads are


@dataclass(slots=True)
class _Watched:
    child: ChildProcess
    activity: Activity
    silence: Silence = field(default_factory=Silence)

    def silent_s(self) -> float:
        # A front that works for so long answers nobody; an engine does so while it loads, and tells its passes' time.
        counted = self.activity.able_s if self.child.is_front else self.activity.idle_s
        return self.silence.look(self.child.pulse.heard(), counted)


class Watch:
    """Looks at the children there are in a thread of its own, from construction to `close`; beats for them to hear."""

    def __init__(self, children: Callable[[], Sequence[ChildProcess]], limit_s: float) -> None:
        """`limit_s`: silence after which one is ended; 0: none is."""
        self._children, self._limit_s = children, limit_s
        self._watched: list[_Watched] = []
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rankport-watch", daemon=True)
        self._thread.start()

    @property
    def goes_on(self) -> bool:
        """True until `close`, unless it met a bug."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Ends no more."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(BEAT_S):
            known = {watched.child: watched for watched in self._watched}
            self._watched = [
                known.get(child) or _Watched(child, Activity(child.pid))
                for child in self._children()
                if not child.ended
            ]
            for watched in self._watched:
                watched.child.pulse.beat()
                self._look(watched)

    def _look(self, watched: _Watched) -> None:
        child, silent_s = watched.child, watched.silent_s()
        limit_s = self._limit_s if child.has_started else self._limit_s * _STARTING
        if not limit_s or silent_s < limit_s or child.hung:
            return
        _log.error(
            "%s (process %d) gave no sign of life for %.0f s (hung_process_s) and is killed; if it can, it tells where "
            "its threads are",
            child.name,
            child.pid,
            limit_s,
        )
        child.hung = True
        child.signal(signal.SIGUSR1)
        self._closed.wait(_TELLS_S)
        child.end()
