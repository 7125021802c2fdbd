"""Admission of calls, whatever front they come by: how many are worked on, what became of them, the last ones' end."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rankport.protos.errors import Overloaded, Unavailable
from rankport.runtime.server.counts import CallCounts, Outcome

_log = logging.getLogger(__name__)


class Admission:
    """Admits calls and counts them. All fronts of a server share one, on the server's event loop."""

    def __init__(self, max_pending: int) -> None:
        self.counts = CallCounts()
        self._max_pending = max_pending
        self._pending = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False

    @contextmanager
    def answering(self, given_up: Callable[[], Outcome]) -> Iterator[None]:
        """Wraps the work of a call: admits and counts it. `given_up` tells why the caller cancelled it.

        Raises:
            Unavailable: the server is stopping.
            Overloaded: as many calls are pending as may be.
        """
        with self.counted(given_up), self.admitted():
            yield

    @contextmanager
    def counted(self, given_up: Callable[[], Outcome]) -> Iterator[None]:
        """Wraps a call and counts how it ends."""
        try:
            yield
        except asyncio.CancelledError:
            self.counts.add(given_up())
            raise
        except Exception as error:
            self.counts.add_error(error)
            raise
        self.counts.add(Outcome.ANSWERED)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Wraps work that has a place among the pending. Raises as `answering`."""
        if self._stopping:
            raise Unavailable("the server is stopping; send the request to another one")
        if self._pending >= self._max_pending:
            raise Overloaded(
                f"{self._pending} calls are pending, the limit is {self._max_pending}; retry later"
            )
        self._pending += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._pending -= 1
            if not self._pending:
                self._idle.set()

    async def drain(self, timeout_s: float) -> bool:
        """Refuses new calls and waits for those in progress. True if none is left."""
        self._stopping = True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            _log.warning("%d calls were not done after %.1f s and are cut off", self._pending, timeout_s)
            return False
        return True
