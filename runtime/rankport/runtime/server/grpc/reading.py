"""Reading of messages within the time that they may take."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from rankport.protos.errors import DeadlineExceeded, InvalidRequest, LimitExceeded
from rankport.runtime.server.grpc.calls import Context

Parse = Callable[[bytes], Any]
_CANCELLED_WITHIN_S = 0.1
# Of calls that anybody may make: a name at most, which comes along with the call.
_OPEN_WITHIN_S, _OPEN_BYTES = 10.0, 16 * 2**10


async def first_message(context: Context, within_s: float, setting: str = "") -> bytes:
    """Reads the message of a call that has one.

    Raises:
        DeadlineExceeded: a part of it, or nothing, came in time, which a `setting` says; gRPC would hold that for ever.
        InvalidRequest: there is none.
    """
    # An iterator that is left before its end would be closed by a task of its own, for every call.
    try:
        message = await _next(context, within_s)
    except TimeoutError:
        said = setting and f" ({setting})"
        raise DeadlineExceeded(
            f"the client sent no whole message within {within_s:g} s{said}: send it with the call"
        ) from None
    if message is not grpc.aio.EOF:
        return bytes(message)
    # A call that its client gave up looks the same until it is cancelled.
    await asyncio.sleep(_CANCELLED_WITHIN_S)
    raise InvalidRequest("the call has no message")


async def open_messages(context: Context, within_s: float, parse: Parse) -> AsyncIterator[Any]:
    """Yields the messages of a stream that anybody may open, until one is not there in time. Raises `LimitExceeded`."""
    while True:
        try:
            message = await _next(context, min(within_s, _OPEN_WITHIN_S))
        except TimeoutError:
            return
        if message is grpc.aio.EOF:
            return
        yield _parsed_small(parse, message)


async def _next(context: Context, within_s: float) -> Any:
    async with asyncio.timeout(within_s):
        return await context.read()


async def open_message(context: Context, within_s: float, parse: Parse) -> Any:
    """Reads the message of a call that anybody may make. Raises as `first_message`, and `LimitExceeded`."""
    return _parsed_small(parse, await first_message(context, min(within_s, _OPEN_WITHIN_S)))


def _parsed_small(parse: Parse, data: bytes) -> Any:
    """Parses the message of a call that anybody may make. Raises `LimitExceeded`, or as `parsed`."""
    if len(data) > _OPEN_BYTES:
        raise LimitExceeded(
            f"the message has {len(data)} bytes, calls that need no token take {_OPEN_BYTES}: send the name alone"
        )
    return parsed(parse, data)


def parsed(parse: Parse, data: bytes) -> Any:
    """Parses a message. Raises `InvalidRequest` for bytes that are none."""
    try:
        return parse(data)
    except DecodeError as error:
        raise InvalidRequest(f"the message cannot be parsed: {error}") from None
