"""`Hub`: what all fronts do together. Orders of who administers the server they take one after the other.

The first front says whether an order can be taken; another that cannot follow it, or comes while one is taken, is
started again and finds the state as it is then. An order that the first one ends at is none: it may have written what
the others do not have, and the state is as before.
"""

import concurrent.futures
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rankport.protos.errors import BackendError, RankportError, Unavailable
from rankport.runtime.server.lifecycle.orders import AdminOrder
from rankport.runtime.server.lifecycle.saved import SavedState, read_state, write_state
from rankport.runtime.server.observing.joined_pages import restarts_page
from rankport.runtime.server.processes.child_process import ChildProcess
from rankport.runtime.server.processes.control import Asked, AskPages, Changed, Pages, Told

_log = logging.getLogger(__name__)
_PAGES_S = 0.5  # for fronts to say their metrics


class Hub:
    """Takes orders in a thread of its own, from construction to `close`."""

    def __init__(
        self,
        fronts: Callable[[], Sequence[ChildProcess]],
        restarts: Callable[[], Mapping[str, Mapping[str, int]]],
        state_file: Callable[[], str],
    ) -> None:
        """`fronts` gives those that there are now, `restarts` how often each child was started again, by why.

        `state_file` gives the file in which each front writes what it has.
        """
        self._fronts, self._restarts, self._state_file = fronts, restarts, state_file
        self._orders: queue.SimpleQueue[tuple[ChildProcess, Asked] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="rankport-hub", daemon=True)
        self._thread.start()

    def ask(self, child: ChildProcess, asked: Asked | AskPages) -> None:
        """Has an order taken, or metrics told, and who asked told what came of it."""
        if isinstance(asked, Asked):
            self._orders.put((child, asked))
        else:
            threading.Thread(target=self._tell_pages, args=(child, asked), daemon=True).start()

    def close(self) -> None:
        """Takes no more."""
        self._orders.put(None)

    def _run(self) -> None:
        while (entry := self._orders.get()) is not None:
            child, asked = entry
            try:
                changed = self._taken(asked.order)
            except Exception as error:  # want of memory, say; no later order would be taken
                _log.exception("an order could not be taken")
                changed = BackendError(f"the order failed: {type(error).__name__}: {error}")
            child.tell(Told(asked.number, changed))

    def _tell_pages(self, child: ChildProcess, asked: AskPages) -> None:
        others = {
            other.name: other.page() for other in self._fronts() if other is not child and other.answers
        }
        concurrent.futures.wait(others.values(), _PAGES_S)
        pages = {name: future.result() for name, future in others.items() if future.done()}
        for name, restarts in self._restarts().items():
            pages[name] = pages.get(name, b"") + restarts_page(restarts)
        child.tell(Pages(asked.number, pages))

    def _taken(self, order: AdminOrder) -> Changed:
        ready = [child for child in self._fronts() if child.answers]
        if not ready:
            return Unavailable("no front answers; ask again when one has started")
        first, *others = ready
        before = self._state()
        changed = first.take(order).result()
        if isinstance(changed, RankportError):
            if others and before is not None and not first.answers:
                self._undo(before, ready)
            return changed
        following = [(child, child.take(order)) for child in others]
        for child, future in following:
            if isinstance(error := future.result(), RankportError):
                self._begin_anew(child, str(error))
        self._begin_others_anew(ready)
        return changed

    def _state(self) -> SavedState | None:
        """Reads what all fronts have; None where that cannot be done."""
        try:
            return read_state(Path(self._state_file()))
        except RankportError as error:
            _log.error("an order is taken that cannot be undone: %s", error)
            return None

    def _undo(self, before: SavedState, ready: Sequence[ChildProcess]) -> None:
        """Has those that start find the state as it was before the order that a front ended at."""
        try:
            write_state(Path(self._state_file()), before, shared=True)
        except RankportError as error:
            _log.error("a front that ended may come back with what the others do not have: %s", error)
        self._begin_others_anew(ready)

    def _begin_others_anew(self, ready: Sequence[ChildProcess]) -> None:
        for child in self._fronts():
            if child not in ready:
                self._begin_anew(child, "it started as an order was taken")

    @staticmethod
    def _begin_anew(child: ChildProcess, reason: str) -> None:
        _log.error("%s does not have what the others have, and is started again: %s", child.name, reason)
        child.end()
