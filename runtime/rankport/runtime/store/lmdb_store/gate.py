"""`Gate`: transactions that share an environment, and what must have it alone.

LMDB forbids changing the map while a transaction of the same process is open: a reader would lose the memory it reads.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Gate:
    """Count of the open transactions. Any thread may call it."""

    def __init__(self, check: Callable[[], None]) -> None:
        """Takes what raises where nobody may enter any more."""
        self._check = check
        self._changed = threading.Condition()
        self._inside = 0
        self._taken = False

    def enter(self) -> None:
        """Comes in beside others; waits while somebody is alone inside."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken)
            self._check()
            self._inside += 1

    def leave(self) -> None:
        """Goes out."""
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Waits until all have left, and keeps others out for the block."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken)
            self._taken = True
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._inside == 0)
            self._check()
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()
