"""`EngineSession`: one model of a front at its engine: requests in, answers out, and the end of both."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from rankport.protos.errors import RequestCancelled
from rankport.runtime.kinds.hosted_engine import HostedEngine
from rankport.runtime.kinds.remote.messages import AbsentKeysError, EngineOrder, Message
from rankport.runtime.links import failures
from rankport.runtime.links.columns import Columns
from rankport.runtime.links.link import Link


class EngineSession:
    """Answers what comes over a link. Its `run` belongs to one thread."""

    def __init__(self, link: Link, borrow: Callable[[EngineOrder], HostedEngine]) -> None:
        """`borrow` gives the engine of an order; who runs this gives it back where there is an `order`."""
        self._link, self._borrow = link, borrow
        self._frames = link.frames()
        self._engine: HostedEngine | None = None
        self._unwatch: Callable[[], None] = lambda: None
        self._futures: dict[int, Future[Columns]] = {}
        self._lock = threading.Lock()  # guards `_futures`
        self.order: EngineOrder | None = None
        self.released = False  # its front let it go

    def run(self) -> None:
        """Reads messages until the front lets the engine go or is gone, and drops what it had asked for then."""
        try:
            for kind, number, columns in self._frames:
                self._take(kind, number, columns)
                if self.released:
                    break  # with the link open, which tells its front by its end that the engine is freed
        finally:
            self._unwatch()
            with self._lock:
                left = list(self._futures.values())
            for future in left:
                future.cancel()

    def tell(self) -> None:
        """Tells the front how the engine is."""
        if self._engine is not None:
            self._link.send(Message.COUNTS, 0, Columns(self._engine.state().values()), wait=True)

    def end(self) -> None:
        """Cuts the front off."""
        self._link.close()

    def close(self) -> None:
        """Frees the connection, behind `run`."""
        self._frames.close()
        self._link.close()

    def _take(self, kind: int, number: int, columns: Columns) -> None:
        if kind == Message.OPEN:
            self._open(EngineOrder.read(columns.values))
        elif kind == Message.SUBMIT:
            self._submit(number, columns)
        elif kind == Message.CANCEL:
            with self._lock:
                future = self._futures.get(number)
            if future is not None:
                future.cancel()
        elif kind == Message.CLOSE:
            self.released = True

    def _open(self, order: EngineOrder) -> None:
        try:
            engine = self._borrow(order)
        except Exception as error:
            self._fail(0, error)
            return
        self.order, self._engine = order, engine
        self._unwatch = engine.engine.watch(self._link.post)
        self._link.send(Message.OPENED, 0, Columns(engine.state().values()), wait=True)

    def _submit(self, number: int, request: Columns) -> None:
        assert self._engine is not None, "a front submits once its engine is open"
        try:
            future = self._engine.submit(request, partial(self._tell_part, number))
        except Exception as error:
            self._fail(number, error)
            return
        with self._lock:
            self._futures[number] = future
        future.add_done_callback(partial(self._answer, number))

    def _tell_part(self, number: int, part: Columns) -> None:
        self._link.send(Message.PART, number, part, wait=True)

    def _answer(self, number: int, future: "Future[Columns]") -> None:
        with self._lock:
            self._futures.pop(number, None)
        if future.cancelled():
            self._fail(number, RequestCancelled("the request was given up"))
        elif (error := future.exception()) is not None:
            self._fail(number, error)
        else:
            try:
                self._link.send(Message.ANSWER, number, future.result(), wait=True)
            except Exception as failure:  # want of memory, say; who waits must hear of it
                self._fail(number, failure)

    def _fail(self, number: int, error: BaseException) -> None:
        if isinstance(error, AbsentKeysError):
            self._link.send(Message.ABSENT, number, Columns(arrays={"keys": error.keys}), wait=True)
            return
        self._link.send(Message.FAILED, number, Columns(failures.told(error)), wait=True)
