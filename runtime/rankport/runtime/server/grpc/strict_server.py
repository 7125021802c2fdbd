"""Refusal of messages that are no protobuf of their type, as of any malformed request, or that would grow in memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from rankport.protos.errors import InvalidRequest, LimitExceeded, PermissionDenied, Unauthenticated
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.calls import Context, open_call, seen
from rankport.runtime.server.grpc.field_count import has_more
from rankport.runtime.server.grpc.guarded import Guarded, caller_of
from rankport.runtime.server.security.guard import Caller
from rankport.runtime.server.security.tokens import Right

Behaviour = Callable[[Any, Context], Awaitable[Any]]
Parse = Callable[[bytes], Any]


# An item is a field or a few; more than this many an item are none that the limits allow.
_FIELDS_OF_ITEM, _OTHER_FIELDS = 4, 10_000


@dataclass(frozen=True, slots=True)
class _Large:
    """Message that is large enough to hold too many fields: counted and parsed in a thread."""

    data: bytes


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
    ) -> None:
        """Adds to `server`, under the name `service` where that on the wire is not that of the stubs.

        Callers need the `right`, but for methods that are `open_to_all`.
        """
        self._server = server
        self._right, self._open = right, open_to_all
        self._service = service
        self._core = core
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
            return grpc.unary_unary_rpc_method_handler(answer, self._parsing(parse), write)
        if handler.unary_stream:
            answer = self._unary(method, handler.unary_stream, parse, streams=True)
            return grpc.unary_stream_rpc_method_handler(answer, self._parsing(parse), write)
        assert handler.stream_stream, "the services have no other methods"
        stream = self._stream(method, handler.stream_stream, parse)
        return grpc.stream_stream_rpc_method_handler(stream, self._parsing(parse), write)

    def _unary(self, method: str, behaviour: Behaviour, parse: Parse, *, streams: bool = False) -> Any:
        async def answer(request: Any, context: Context) -> Any:
            with seen(context, self._core, method, self._caller(context, method), streams=streams):
                if isinstance(request, InvalidRequest | _Large):
                    try:
                        request = await self._read(request, parse)
                    except InvalidRequest as error:
                        async with open_call(context, self._core):
                            raise error
                return await behaviour(request, context)

        return answer

    def _stream(self, method: str, behaviour: Behaviour, parse: Parse) -> Any:
        async def messages(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            async for request in requests:
                unread = isinstance(request, InvalidRequest | _Large)
                yield await self._read(request, parse) if unread else request

        async def answer(requests: AsyncIterator[Any], context: Context) -> Any:
            with seen(context, self._core, method, self._caller(context, method), streams=True):
                return await behaviour(messages(requests), context)

        return answer

    def _caller(self, context: Context, method: str) -> Caller | None:
        """Says whose call it is; None where everyone may, or whose token was withdrawn since it was let in."""
        if method.rpartition(".")[2] in self._open:
            return None
        with suppress(Unauthenticated, PermissionDenied):
            return caller_of(context.invocation_metadata(), self._core, self._right)
        return None

    def _parsing(self, parse: Parse) -> Parse:
        """Makes what reads a message at once, or returns it unread, or the reason why it cannot be read."""
        few_bytes = 2 * self._most_fields  # fields, and numbers, have two and one at least

        def parse_or_tell(data: bytes) -> Any:
            return _Large(data) if len(data) > few_bytes else _parsed(parse, data)

        return parse_or_tell

    async def _read(self, unread: InvalidRequest | _Large, parse: Parse) -> Any:
        if isinstance(unread, InvalidRequest):
            raise unread
        self._core.limits.check_bytes(len(unread.data))
        message = await asyncio.to_thread(self._count_and_parse, unread.data, parse)
        if isinstance(message, InvalidRequest):
            raise message
        return message

    def _count_and_parse(self, data: bytes, parse: Parse) -> Any:
        kind = parse.__self__.DESCRIPTOR  # type: ignore[attr-defined]  # a method of the message's class
        limits = self._core.limits
        if has_more(data, kind, self._most_fields, limits.tokens + self._most_fields):
            return LimitExceeded(
                f"the request has more than {self._most_fields} fields, this server takes {limits.items} items "
                "(max_request_items): send fewer at once"
            )
        return _parsed(parse, data)


def _parsed(parse: Parse, data: bytes) -> Any:
    try:
        return parse(data)
    except DecodeError as error:
        return InvalidRequest(f"the message cannot be parsed: {error}")
