"""Way from the event loop to a model: reads and tokenizes in threads, then awaits the model's future."""

import asyncio
import concurrent.futures
import time
from collections.abc import Callable
from typing import TypeVar

from rankport.protos.errors import DeadlineExceeded, RequestCancelled

T = TypeVar("T")
Submit = Callable[[float | None], concurrent.futures.Future[T]]
"""Hands a request to a model, given the seconds that are left."""


class Submitter:
    """Threads for `submit` calls, which take the time of a tokenization."""

    def __init__(self, threads: int) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="rankport-submit")

    async def run(self, submit: Submit[T], timeout_s: float | None) -> T:
        """Returns the result of the future that `submit` returns.

        Cancelling the wait cancels the work at whatever stage it is, so that none is done for nobody.

        Raises:
            DeadlineExceeded: `timeout_s` passed before a thread was free.
            RequestCancelled: the model dropped the work without saying why.
            Exception: what `submit` or its future raises.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        submitting = self._pool.submit(_submit_in_time, submit, deadline)
        try:
            future = await asyncio.wrap_future(submitting)
        except asyncio.CancelledError:
            # The thread may be past the point of cancelling: then its future is cancelled when it is there.
            submitting.add_done_callback(_cancel_result)
            raise
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise RequestCancelled("the model was closed or dropped the request; send it again") from None

    def close(self, *, wait: bool = False) -> None:
        """Drops what no thread has begun, and ends the threads; `wait` until they are."""
        self._pool.shutdown(wait=wait, cancel_futures=True)


def _submit_in_time(submit: Submit[T], deadline: float | None) -> concurrent.futures.Future[T]:
    if deadline is None:
        return submit(None)
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise DeadlineExceeded(
            f"the deadline passed {-remaining:.3f} s before the request could be tokenized"
        )
    return submit(remaining)


def _cancel_result(submitting: concurrent.futures.Future[concurrent.futures.Future[T]]) -> None:
    if not submitting.cancelled() and submitting.exception() is None:
        submitting.result().cancel()
