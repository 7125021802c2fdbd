"""Calls and what all have in common: admission, the error table, counting, and the wait for the last ones."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NoReturn
from urllib.parse import quote

import grpc

from rankport.protos.errors import (
    ERROR_METADATA_KEY,
    BackendError,
    Overloaded,
    RankportError,
    Unavailable,
    status_code,
)
from rankport.runtime.server.counts import CallCounts, Outcome

Context = grpc.aio.ServicerContext[Any, Any]
_log = logging.getLogger(__name__)
# HTTP/2 headers carry the message percent-encoded, and peers take 8 KiB of headers in all.
_MAX_ENCODED_MESSAGE = 4096
_TRAVEL_S = 0.1  # by which a call may reach the server, and its deadline pass here, later than in the client


class Calls:
    """Admits calls and turns their errors into statuses. Lives on the server's event loop."""

    def __init__(self, max_pending: int) -> None:
        self.counts = CallCounts()
        self._max_pending = max_pending
        self._pending = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False

    @asynccontextmanager
    async def answering(self, context: Context) -> AsyncIterator[None]:
        """Wraps the work of a call: whatever it raises ends the call with the status of the table."""
        allowed_s = context.time_remaining()
        try:
            with self._admitted():
                yield
            self.counts.add(Outcome.ANSWERED)
        except asyncio.CancelledError:
            self.counts.add(_why_given_up(allowed_s, context.time_remaining()))
            raise
        except Exception as error:
            self.counts.add_error(error)
            await _abort(context, error)

    async def drain(self, timeout_s: float) -> bool:
        """Refuses new calls and waits for those in progress. True if none is left."""
        self._stopping = True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            _log.warning("%d calls were not done after %.1f s and are cut off", self._pending, timeout_s)
            return False
        return True

    @contextmanager
    def _admitted(self) -> Iterator[None]:
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


def _why_given_up(allowed_s: float | None, left_s: float | None) -> Outcome:
    """Tells a deadline from a cancellation: a client resets a call at its own deadline, a moment before ours."""
    if allowed_s is None or left_s is None:
        return Outcome.CANCELLED
    return Outcome.DEADLINE if left_s <= min(_TRAVEL_S, allowed_s / 5) else Outcome.CANCELLED


async def _abort(context: Context, error: Exception) -> NoReturn:
    if isinstance(error, RankportError):
        name, message = type(error).__name__, str(error)
        if isinstance(error, BackendError):
            _log.error("a pass failed: %s", message, exc_info=error)
    else:
        incident = uuid.uuid4().hex[:12]
        _log.error("unexpected error %s", incident, exc_info=error)
        name, message = (
            BackendError.__name__,
            f"unexpected error {incident}; the server's log has its traceback",
        )
    trailers = ((ERROR_METADATA_KEY, name),)
    await context.abort(status_code(error), _clipped(message), trailing_metadata=trailers)


def _clipped(message: str) -> str:
    if len(quote(message)) <= _MAX_ENCODED_MESSAGE:
        return message
    return message[: _MAX_ENCODED_MESSAGE // 12] + "…"  # a character takes up to 12 encoded bytes
