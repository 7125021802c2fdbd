"""Way from the event loop to a model and back: reads and tokenizes in threads, and awaits the model's future.

Results come back in bundles: a pass answers many requests at once, and one call wakes the loop for all of them. Each
wake-up is a hand-over of the interpreter's lock, which costs more than the rest of a small request.
"""

import asyncio
import concurrent.futures
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext, suppress
from typing import Any, Generic, TypeVar

from rankport.protos.errors import DeadlineExceeded, RequestCancelled
from rankport.protos.generation import GeneratedPart
from rankport.protos.priorities import priority
from rankport.runtime.scheduling.meter import Meter
from rankport.runtime.server.observing.call import Call, current_call
from rankport.runtime.server.observing.phases import PhaseTimes

T = TypeVar("T")
Submit = Callable[[float | None], concurrent.futures.Future[T]]
"""Hands a request to a model, given the seconds that are left."""


class Parts:
    """Parts of a text on their way from the engine's thread to the loop that it is made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[GeneratedPart | None] = asyncio.Queue()

    def put(self, part: GeneratedPart) -> None:
        """Hands a part over; any thread may call it."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._queue.put_nowait, part)

    def end(self) -> None:
        """Ends the text, behind all its parts."""
        self._loop.call_soon(self._queue.put_nowait, None)

    async def __aiter__(self) -> AsyncIterator[list[GeneratedPart]]:
        """Yields all parts that are there, as soon as one is."""
        while True:
            parts = [await self._queue.get()]
            while not self._queue.empty():
                parts.append(self._queue.get_nowait())
            told = [part for part in parts if part is not None]
            if told:
                yield told
            if len(told) < len(parts):
                return


class Submitter:
    """Threads for `submit` calls, which take the time of a tokenization. Its `run` belongs to one loop."""

    def __init__(self, threads: int) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="rankport-submit")
        self._results: _Results | None = None

    async def run(self, submit: Submit[T], timeout_s: float | None, *, in_loop: bool = False) -> T:
        """Returns the result of the future that `submit` returns.

        Cancelling the wait cancels the work at whatever stage it is, so that none is done for nobody. `in_loop`: the
        call neither waits nor tokenizes, so that a thread would cost more than it does.

        Raises:
            DeadlineExceeded: `timeout_s` passed before a thread was free.
            RequestCancelled: the model dropped the work without saying why.
            Exception: what `submit` or its future raises.
        """
        if self._results is None:
            self._results = _Results(asyncio.get_running_loop())
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        job = _Job(submit, deadline, self._results, current_call())
        if in_loop:
            job.start()
        else:
            self._queue(job)
        try:
            return await job.result
        except asyncio.CancelledError:
            job.cancel()
            raise

    def _queue(self, job: "_Job[Any]") -> None:
        try:
            queued = self._pool.submit(job.start)
        except (
            BaseException
        ):  # no thread can be started: it is in the queue all the same, for those that there are
            job.cancel()
            raise
        queued.add_done_callback(job.drop)

    @property
    def threads(self) -> concurrent.futures.Executor:
        """Threads that read requests, for what a request has to do again later."""
        return self._pool

    def close(self, *, wait: bool = False) -> None:
        """Drops what no thread has begun, and ends the threads; `wait` until they are."""
        self._pool.shutdown(wait=wait, cancel_futures=True)


class _Results:
    """Results on their way to a loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._arrived: deque[tuple[_Job[Any], concurrent.futures.Future[Any]]] = deque()
        self._woken = False

    def future(self) -> "asyncio.Future[Any]":
        """Returns a future of the loop."""
        return self._loop.create_future()

    def post(self, job: "_Job[Any]", done: "concurrent.futures.Future[Any]") -> None:
        """Hands a result over; any thread may call it."""
        self._arrived.append((job, done))
        if not self._woken:
            self._woken = True
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        # Before the first is taken: what arrives from now on wakes the loop again.
        self._woken = False
        while self._arrived:
            job, done = self._arrived.popleft()
            job.end(done)


class _Job(Generic[T]):
    """Request on its way to a model and back."""

    def __init__(
        self, submit: Submit[T], deadline: float | None, results: _Results, call: Call | None
    ) -> None:
        self.result: asyncio.Future[T] = results.future()
        self._submit, self._deadline, self._results = submit, deadline, results
        self._call = call
        self._times = PhaseTimes()
        self._meter = Meter()
        self._lock = threading.Lock()  # guards the two below
        self._cancelled = False
        self._future: concurrent.futures.Future[T] | None = None

    def start(self) -> None:
        """Submits the request, unless nobody waits any more."""
        if self._cancelled:
            return
        self._times.begun()
        try:
            with self._meter, nullcontext() if self._call is None else priority(self._call.priority):
                future = _submit_in_time(self._submit, self._deadline)
        except BaseException as error:
            future = concurrent.futures.Future()
            future.set_exception(error)
        self._times.submitted()
        with self._lock:
            self._future, cancelled = future, self._cancelled
        if cancelled:
            future.cancel()
        future.add_done_callback(self._arrived)

    def cancel(self) -> None:
        """Cancels the work, or what a thread is about to make of it."""
        with self._lock:
            self._cancelled, future = True, self._future
        if future is not None:
            future.cancel()

    def drop(self, queued: "concurrent.futures.Future[None]") -> None:
        """Ends the wait of a request that no thread will begin."""
        if queued.cancelled():
            self._results.post(self, queued)

    def end(self, done: "concurrent.futures.Future[Any]") -> None:
        """Ends the wait with what became of the work. The loop's thread only."""
        if self._call is not None and self._call.quota is not None:  # also for what was given up meanwhile
            self._call.quota.charge_tokens(self._meter.tokens)
        if self.result.done():
            return
        if self._call is not None:
            self._times.note(self._call, done)
        if done.cancelled():
            reason = "the model was closed or dropped the request; send it again"
            self.result.set_exception(RequestCancelled(reason))
        elif (error := done.exception()) is not None:
            # A future of the loop takes no StopIteration: others would wait for it.
            told = RuntimeError("StopIteration") if isinstance(error, StopIteration) else error
            self.result.set_exception(told)
        else:
            self.result.set_result(done.result())

    def _arrived(self, done: "concurrent.futures.Future[T]") -> None:
        self._results.post(self, done)


def _submit_in_time(submit: Submit[T], deadline: float | None) -> concurrent.futures.Future[T]:
    if deadline is None:
        return submit(None)
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise DeadlineExceeded(
            f"the deadline passed {-remaining:.3f} s before the request could be tokenized"
        )
    return submit(remaining)
