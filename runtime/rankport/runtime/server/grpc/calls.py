"""Calls of gRPC: admission by the server's own rule, and errors as statuses with their details."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn
from urllib.parse import quote

import grpc

from rankport.protos.errors import ERROR_METADATA_KEY, status_code
from rankport.runtime.server.admission import Admission
from rankport.runtime.server.counts import Outcome
from rankport.runtime.server.failures import told

Context = grpc.aio.ServicerContext[Any, Any]
# HTTP/2 headers carry the message percent-encoded, and peers take 8 KiB of headers in all.
_MAX_ENCODED_MESSAGE = 4096
_TRAVEL_S = 0.1  # by which a call may reach the server, and its deadline pass here, later than in the client


@asynccontextmanager
async def answering(context: Context, admission: Admission) -> AsyncIterator[None]:
    """Wraps the work of a call: whatever it raises ends the call with the status of the table."""
    allowed_s = context.time_remaining()
    try:
        with admission.answering(lambda: _why_given_up(allowed_s, context.time_remaining())):
            yield
    except Exception as error:
        await _abort(context, error)


def _why_given_up(allowed_s: float | None, left_s: float | None) -> Outcome:
    """Tells a deadline from a cancellation: a client resets a call at its own deadline, a moment before ours."""
    if allowed_s is None or left_s is None:
        return Outcome.CANCELLED
    return Outcome.DEADLINE if left_s <= min(_TRAVEL_S, allowed_s / 5) else Outcome.CANCELLED


async def _abort(context: Context, error: Exception) -> NoReturn:
    failure = told(error)
    trailers = ((ERROR_METADATA_KEY, type(failure).__name__),)
    await context.abort(status_code(failure), _clipped(str(failure)), trailing_metadata=trailers)


def _clipped(message: str) -> str:
    if len(quote(message)) <= _MAX_ENCODED_MESSAGE:
        return message
    return message[: _MAX_ENCODED_MESSAGE // 12] + "…"  # a character takes up to 12 encoded bytes
