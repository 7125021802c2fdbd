"""`Connection`: the way of one model to its engine in another process, over and over where that process is restarted.

Owns the requests that are on their way: each has an answer or an error, also where the engine's process dies.
"""

import itertools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from rankport.protos.errors import InvalidRequest, LimitExceeded, Overloaded, RankportError, Unavailable
from rankport.protos.wording import be, counted
from rankport.runtime.kinds.remote.messages import AbsentKeysError, EngineOrder, EngineState, Message
from rankport.runtime.links import failures
from rankport.runtime.links.columns import Columns
from rankport.runtime.links.link import Link, NoRoomError
from rankport.runtime.scheduling.futures import settle
from rankport.runtime.scheduling.meter import Meter, own_meter

_log = logging.getLogger(__name__)
_RETRY_S, _RELOAD_S = 0.05, 1.0  # until it connects again, and asks again for what could not be loaded
_FREED_S = 30.0  # at most, that an engine takes to free its device
_BACK_AFTER_S = 1.0  # a hint for who asks meanwhile: a process starts and loads in seconds
_RESTARTING = (
    "the engine's process has stopped and is started again: send the request again, or to another server"
)
_CLOSED = "the engine is closed; load the bundle again"
_NOT_LOADED = (
    "the engine's process ended, or cut the connection, before it had loaded the bundle; its log says why"
)


# A request that ends so was never in the engine's queue.
_NOT_QUEUED = (Overloaded, LimitExceeded, AbsentKeysError)

OnPart = Callable[[Columns], None]
"""Is told a part of an answer by the thread that receives, which it must not hold up."""


@dataclass(frozen=True, slots=True)
class _Pending:
    future: "Future[Columns]"
    tokens: int
    meter: Meter | None
    on_part: OnPart | None


class Connection:
    """Sends requests to an engine, and resolves their futures. Any thread may call it."""

    def __init__(self, address: str, order: EngineOrder, ring_bytes: int) -> None:
        """Connects, and returns once the engine is loaded. Raises as its load, `Unavailable` if nobody is there."""
        self._address, self._order, self._ring_bytes = address, order, ring_bytes
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()  # guards the fields down to `_closing`
        self._pending: dict[int, _Pending] = {}
        self._link: Link | None = None  # once the engine is loaded
        self._connected: Link | None = None
        self._closing = False
        self.state: EngineState | None = None
        self._stop = threading.Event()
        self._first: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="rankport-engine-link", daemon=True)
        self._thread.start()
        self._first.result()

    @property
    def alive(self) -> bool:
        """False while its process is away, and once either end is closed."""
        return self._link is not None and not self._closing and self.state is not None and self.state.alive

    @property
    def away(self) -> bool:
        """True while its process is, which is started again."""
        return self._link is None and not self._closing

    def submit(self, columns: Columns, tokens: int, on_part: OnPart | None = None) -> "Future[Columns]":
        """Sends a request of so many tokens; `on_part` is told the parts of its answer, all before the future.

        Raises `Unavailable` while the process is away, `Overloaded` where it is behind with what was sent. The future
        raises as the engine, and `AbsentKeysError` where the request names keys that its device has no tokens of.
        """
        pending = _Pending(Future(), tokens, own_meter(), on_part)
        number = next(self._numbers)
        with self._changed:
            link = self._link
            if self._closing:
                raise Unavailable(_CLOSED)
            if link is None:
                raise _away()
            self._pending[number] = pending
        try:
            link.send(Message.SUBMIT, number, columns)
        except BaseException as error:
            with self._changed:
                self._pending.pop(number, None)
            if not isinstance(error, NoRoomError):  # want of memory, say
                raise
            raise Overloaded(
                "the memory between this front and its engine is full (link_bytes): retry later"
            ) from None
        pending.future.add_done_callback(partial(self._cancel, number))
        return pending.future

    def posted(self) -> list[float] | None:
        """Reads the numbers of its queue that the engine posted last; None while its process is away."""
        link = self._link
        return None if link is None or self._closing else link.posted()

    def stop(self) -> None:
        """Takes no more requests, and waits for nothing."""
        with self._changed:
            self._closing = True

    def close(self, grace_s: float) -> None:
        """Lets what was sent be answered for `grace_s` seconds, fails the rest, and waits until the engine is freed.

        It is where no other front has it; one that takes too long for that is left to its process.
        """
        self.stop()
        with self._changed:
            self._changed.wait_for(lambda: not self._pending, grace_s)
            self._stop.set()
            link, loaded = self._connected, self._link is not None
        elsewhere = threading.current_thread() is not self._thread
        if link is not None:
            link.send(Message.CLOSE, 0, Columns(), wait=True)
            if elsewhere and loaded:
                self._thread.join(_FREED_S)  # it ends with the connection, which the other end closes then
            link.close()
        if elsewhere:
            self._thread.join()

    def _cancel(self, number: int, future: "Future[Columns]") -> None:
        link = self._link  # a later one knows no such number
        if future.cancelled() and link is not None:
            link.send(Message.CANCEL, number, Columns(), wait=True)

    def _run(self) -> None:
        """Connects, receives until the other end is gone, and begins anew."""
        while not self._stop.is_set():
            try:
                link = Link.connect(self._address, self._ring_bytes)
            except (OSError, MemoryError) as error:
                self._failed(Unavailable(f"the engine's process does not answer: {error}"))
                self._stop.wait(_RETRY_S)
            else:
                self._stop.wait(_RETRY_S if self._receive(link) else _RELOAD_S)

    def _receive(self, link: Link) -> bool:
        """Receives until the other end is gone. Returns whether the engine was ever loaded there."""
        with self._changed:
            self._connected = link
            if self._stop.is_set():
                link.close()
        link.send(Message.OPEN, 0, Columns(self._order.values()))
        try:
            for kind, number, columns in link.frames():
                self._take(link, kind, number, columns)
        except Exception:  # want of memory, say: nothing that follows can be told apart
            _log.exception("what the engine's process sent cannot be taken, and it is connected to anew")
        link.close()
        with self._changed:
            opened = self._link is not None
            self._link = self._connected = None
            lost, self._pending = self._pending, {}
            self._changed.notify_all()
        if opened and not self._stop.is_set():
            refused = f"{counted(len(lost), 'request')} of bundle {self._order.path} {be(len(lost))}"
            _log.error("the engine's process is gone; %s refused", refused)
        for pending in lost.values():
            error = Unavailable(_CLOSED) if self._stop.is_set() else _away()
            settle(pending.future, pending.future.set_exception, error)
        self._failed(Unavailable(_NOT_LOADED))
        return opened

    def _take(self, link: Link, kind: int, number: int, columns: Columns) -> None:
        if kind == Message.COUNTS:
            self.state = EngineState.read(columns.values)
        elif kind == Message.OPENED:
            self._opened(link, columns)
        elif not number:
            self._not_opened(link, failures.read(columns.values))
        elif kind == Message.PART:
            self._part(link, number, columns)
        else:
            self._resolve(kind, number, columns)

    def _part(self, link: Link, number: int, columns: Columns) -> None:
        """Tells a part; a caller whose function raises gets no answer, as in one process."""
        with self._changed:
            pending = self._pending.get(number)
        if pending is None or pending.on_part is None or pending.future.done():
            return
        try:
            pending.on_part(columns)
        except Exception as error:
            failure = InvalidRequest(f"on_part raised {type(error).__name__}: {error}")
            settle(pending.future, pending.future.set_exception, failure)
            link.send(Message.CANCEL, number, Columns(), wait=True)

    def _opened(self, link: Link, columns: Columns) -> None:
        self.state = EngineState.read(columns.values)
        with self._changed:
            self._link = link
        if not self._first.done():
            self._first.set_result(None)
        else:
            _log.warning("the engine's process is back")

    def _not_opened(self, link: Link, error: RankportError) -> None:
        """Lets go of an engine that could not be loaded: it may be when it is asked for again."""
        if self._first.done():
            _log.error("the engine's process is back, and is asked again for what it cannot load: %s", error)
        self._failed(error)
        link.close()

    def _failed(self, error: RankportError) -> None:
        """Ends the wait of who made this with what kept it from an engine; later it only tries again."""
        if not self._first.done():
            self._stop.set()
            self._first.set_exception(error)

    def _resolve(self, kind: int, number: int, columns: Columns) -> None:
        with self._changed:
            pending = self._pending.pop(number, None)
            self._changed.notify_all()
        if pending is None:
            return
        error: Exception | None = None
        if kind == Message.FAILED:
            error = failures.read(columns.values)
        elif kind == Message.ABSENT:
            error = AbsentKeysError(columns.arrays["keys"])
        if pending.meter is not None and not isinstance(error, _NOT_QUEUED):
            pending.meter.tokens += pending.tokens  # they were taken into the engine's queue
        future = pending.future
        resolve: Callable[[Any], None] = future.set_result if error is None else future.set_exception
        settle(future, resolve, columns if error is None else error)


def _away() -> Unavailable:
    error = Unavailable(_RESTARTING)
    error.retry_after_s = _BACK_AFTER_S
    return error
