"""Stages of a job that go on beside its encoder: what reads ahead of it, and what stores behind it.

Each is one thread with a short queue, so that a slow stage holds the others back. What fails in a stage is raised in
the thread of the job, in its place among the results.
"""

import threading
from collections.abc import Callable, Generator, Iterable
from queue import Empty, Full, Queue
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")
_LOOK_S = 0.1  # at whether anybody still waits
_WAITING_S = 0.2  # for the next value, between two calls of who waits
_LEAVE_S = 1.0  # that a thread may take to end what it is at; one that waits for what nobody sends is left


def read_ahead(
    values: Iterable[T], depth: int, waiting: Callable[[], None] = lambda: None
) -> Generator[T, None, None]:
    """Yields what `values` yields, drawn by a thread, at most `depth` ahead. Closing it ends the thread.

    `waiting` is called now and then while nothing comes; what it raises ends the reading.
    """
    queue: Queue[tuple[T | None, BaseException | None, bool]] = Queue(depth)
    left = threading.Event()

    def put(value: T | None, error: BaseException | None, last: bool) -> None:
        while not left.is_set():
            try:
                queue.put((value, error, last), timeout=_LOOK_S)
                return
            except Full:
                continue

    def draw() -> None:
        try:
            for value in values:
                put(value, None, False)
                if left.is_set():
                    return
        except BaseException as error:
            put(None, error, True)
        else:
            put(None, None, True)

    thread = threading.Thread(target=draw, name="rankport-read", daemon=True)
    thread.start()
    try:
        while True:
            try:
                value, error, last = queue.get(timeout=_WAITING_S)
            except Empty:
                waiting()
                continue
            if error is not None:
                raise error
            if last:
                return
            yield value  # type: ignore[misc]  # it is one where there is no error, and more to come
    finally:
        left.set()
        thread.join(_LEAVE_S)


class StoredBehind(Generic[T]):
    """Stores batches in their order, in a thread. A context: its end waits for what was put, whatever ended it."""

    def __init__(self, store: Callable[[list[T]], None], depth: int) -> None:
        self._store = store
        self._queue: Queue[list[T] | None] = Queue(depth)
        self._stored = 0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="rankport-store", daemon=True)

    @property
    def stored(self) -> int:
        """Values that are stored by now."""
        return self._stored

    def put(self, batch: list[T]) -> None:
        """Has a batch stored, waiting while enough others wait. Raises what an earlier one failed with."""
        while True:
            self._raise()
            try:
                self._queue.put(batch, timeout=_LOOK_S)
                return
            except Full:
                continue

    def flush(self) -> None:
        """Waits until all is stored. Raises what failed."""
        self._queue.join()
        self._raise()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._thread.is_alive():
            try:
                self._queue.put(None, timeout=_LOOK_S)
                break
            except Full:
                continue
        self._thread.join()
        if error is None:
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while True:
            batch = self._queue.get()
            try:
                if batch is None:
                    return
                if self._error is None:
                    self._store(batch)
                    self._stored += len(batch)
            except BaseException as error:
                self._error = error
            finally:
                self._queue.task_done()
