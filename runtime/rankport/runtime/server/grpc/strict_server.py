"""Refusal of calls without room before they are read, and of messages that are no protobuf, or would grow in memory.

Every method takes its message as the first of a stream, which looks the same on the wire: nothing of it is read before
it is asked for, and a client whose call is refused stops sending it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import grpc

from rankport.protos.errors import (
    LimitExceeded,
    PermissionDenied,
    RankportError,
    Unauthenticated,
)
from rankport.runtime.kinds.capabilities import Capability
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.calls import Context, open_call, seen
from rankport.runtime.server.grpc.field_count import has_more
from rankport.runtime.server.grpc.guarded import Guarded, caller_of
from rankport.runtime.server.grpc.open_calls import OpenCalls
from rankport.runtime.server.grpc.reading import Parse, first_message, open_message, parsed
from rankport.runtime.server.observing.call import Call
from rankport.runtime.server.security.guard import Caller
from rankport.runtime.server.security.tokens import Right

Behaviour = Callable[[Any, Context], Awaitable[Any]]


# Methods that are work, and what does it; None: any model may.
_WORK: Mapping[str, Capability | None] = {
    "Scoring.Score": "scores",
    "SetRanking.Rank": "ranks_sets",
    "Embedding.Encode": "encodes",
    "Embedding.EncodeSparse": "encodes_sparse",
    "Classification.Classify": "classifies",
    "Tagging.Tag": "tags",
    "Generation.Generate": "generates",
    "Generation.Search": "generates",
    "GRPCInferenceService.ModelInfer": None,
}
# An item is a field or a few; more than this many an item are none that the limits allow.
_FIELDS_OF_ITEM, _OTHER_FIELDS = 4, 10_000


class StrictServer:
    """Stands for a server where services are added to it: their methods then never see a message that is malformed."""

    def __init__(
        self,
        server: grpc.aio.Server,
        core: Core,
        service: str | None = None,
        *,
        right: Right = "call",
        open_to_all: frozenset[str] = frozenset(),
        calls: OpenCalls | None = None,
    ) -> None:
        """Adds to `server`, under the name `service` where that on the wire is not that of the stubs.

        Callers need the `right`, but for methods that are `open_to_all`, which count among the `calls` of their port.
        """
        self._server = server
        self._right, self._open = right, open_to_all
        self._service = service
        self._core, self._calls = core, calls
        self._most_fields = _FIELDS_OF_ITEM * core.limits.items + _OTHER_FIELDS

    def add_generic_rpc_handlers(self, handlers: Sequence[object]) -> None:
        """Leaves out handlers that look a method up by name: the same methods are registered by name as well."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Adds the methods of a service."""
        service = self._service or service
        short = service.rpartition(".")[2]
        strict = {name: self._strict(f"{short}.{name}", handler) for name, handler in handlers.items()}
        found = grpc.method_handlers_generic_handler(service, strict)
        self._server.add_generic_rpc_handlers((Guarded(found, self._core, self._right, self._open),))

    def _strict(self, method: str, handler: Any) -> Any:
        parse, write = handler.request_deserializer, handler.response_serializer
        if handler.unary_unary:
            answer = self._unary(method, handler.unary_unary, parse)
            return grpc.stream_unary_rpc_method_handler(answer, None, write)
        if handler.unary_stream:
            answer = self._unary(method, handler.unary_stream, parse, streams=True)
            return grpc.stream_stream_rpc_method_handler(answer, None, write)
        assert handler.stream_stream, "the services have no other methods"
        stream = self._stream(method, handler.stream_stream, parse)
        return grpc.stream_stream_rpc_method_handler(stream, None, write)

    def _unary(self, method: str, behaviour: Behaviour, parse: Parse, *, streams: bool = False) -> Any:
        async def answer(_: AsyncIterator[bytes], context: Context) -> Any:
            with seen(context, self._core, method, self._caller(context, method), streams=streams) as call:
                try:
                    self._check_unread(method, call, context)
                    request = await self._first(method, context, parse)
                except RankportError as error:
                    async with open_call(context, self._core):
                        raise error
                return await behaviour(request, context)

        return answer

    def _stream(self, method: str, behaviour: Behaviour, parse: Parse) -> Any:
        async def requests(messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
            async for message in messages:
                # A stream may outlast its client's token, or the limits of its quota.
                caller_of(context.invocation_metadata(), self._core, self._right)
                yield await self._read(message, parse)

        async def answer(messages: AsyncIterator[bytes], context: Context) -> Any:
            with seen(context, self._core, method, self._caller(context, method), streams=True):
                return await behaviour(requests(messages, context), context)

        return answer

    def _check_unread(self, method: str, call: Call, context: Context) -> None:
        if method in _WORK:
            call.take_priority("interactive")
            self._core.check_unread(_WORK[method], context.time_remaining())

    async def _first(self, method: str, context: Context, parse: Parse) -> Any:
        idle_s = self._core.config.stream_idle_s
        if self._is_open(method):
            assert self._calls is not None, "they are given with what is open"
            self._calls.enter(context)
            return await open_message(context, idle_s, parse)
        return await self._read(await first_message(context, idle_s, "stream_idle_s"), parse)

    def _is_open(self, method: str) -> bool:
        return method.rpartition(".")[2] in self._open

    def _caller(self, context: Context, method: str) -> Caller | None:
        """Says whose call it is; None where everyone may, or whose token was withdrawn since it was let in."""
        if self._is_open(method):
            return None
        with suppress(Unauthenticated, PermissionDenied):
            return caller_of(context.invocation_metadata(), self._core, self._right)
        return None

    async def _read(self, data: bytes, parse: Parse) -> Any:
        """Reads a message, in a thread if it is large enough to hold too many fields. Raises `InvalidRequest`."""
        if len(data) <= 2 * self._most_fields:  # fields, and numbers, have two and one at least
            return parsed(parse, data)
        self._core.limits.check_bytes(len(data))
        return await asyncio.to_thread(self._count_and_parse, data, parse)

    def _count_and_parse(self, data: bytes, parse: Parse) -> Any:
        kind = parse.__self__.DESCRIPTOR  # type: ignore[attr-defined]  # a method of the message's class
        limits = self._core.limits
        if has_more(data, kind, self._most_fields, limits.tokens + self._most_fields):
            raise LimitExceeded(
                f"the request has more than {self._most_fields} fields, this server takes {limits.items} items "
                "(max_request_items): send fewer at once"
            )
        return parsed(parse, data)
