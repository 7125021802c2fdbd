"""`Hub`: orders of who administers the server, taken by all fronts one after the other, so that all have the same.

The first front says whether an order can be taken; another that cannot follow it, or comes while one is taken, is
started again and finds the state as it is then.
"""

import logging
import queue
import threading
from collections.abc import Callable, Sequence

from rankport.protos.errors import RankportError, Unavailable
from rankport.runtime.server.lifecycle.orders import AdminOrder
from rankport.runtime.server.processes.child_process import ChildProcess
from rankport.runtime.server.processes.control import Asked, Changed

_log = logging.getLogger(__name__)


class Hub:
    """Takes orders in a thread of its own, from construction to `close`."""

    def __init__(self, fronts: Callable[[], Sequence[ChildProcess]]) -> None:
        """`fronts` gives those that there are now."""
        self._fronts = fronts
        self._orders: queue.SimpleQueue[tuple[ChildProcess, Asked] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="rankport-hub", daemon=True)
        self._thread.start()

    def ask(self, child: ChildProcess, asked: Asked) -> None:
        """Has an order taken, and who passed it on told what became of it."""
        self._orders.put((child, asked))

    def close(self) -> None:
        """Takes no more."""
        self._orders.put(None)

    def _run(self) -> None:
        while (entry := self._orders.get()) is not None:
            child, asked = entry
            child.tell(asked, self._taken(asked.order))

    def _taken(self, order: AdminOrder) -> Changed:
        ready = [child for child in self._fronts() if child.answers]
        if not ready:
            return Unavailable("no front answers; ask again when one has started")
        changed = ready[0].take(order).result()
        if isinstance(changed, RankportError):
            return changed
        following = [(child, child.take(order)) for child in ready[1:]]
        for child, future in following:
            if isinstance(error := future.result(), RankportError):
                self._begin_anew(child, str(error))
        for child in self._fronts():
            if child not in ready:
                self._begin_anew(child, "it started as an order was taken")
        return changed

    @staticmethod
    def _begin_anew(child: ChildProcess, reason: str) -> None:
        _log.error("%s does not have what the others have, and is started again: %s", child.name, reason)
        child.end()
