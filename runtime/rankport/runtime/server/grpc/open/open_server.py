"""`OpenServer`: bounds what whoever reaches the port may send and keep open, without a token."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc

from rankport.protos.errors import RankportError
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.calls import Context, abort
from rankport.runtime.server.grpc.open_calls import OpenCalls
from rankport.runtime.server.grpc.reading import Parse, open_message, open_messages

Behaviour = Callable[[Any, Context], Awaitable[Any]]
Answers = Callable[[AsyncIterator[Any], Context], AsyncIterator[Any]]


class OpenServer:
    """Stands for a server where services that are open to everyone are added.

    Their messages are small and come with the call; a stream that says nothing more ends, as if its client had ended
    it; and a connection has so many of their calls open. Nothing of them is observed.
    """

    def __init__(self, server: grpc.aio.Server, core: Core, calls: OpenCalls) -> None:
        """Has them among the `calls` of their port that need no token."""
        self._server, self._core, self._idle_s = server, core, core.config.stream_idle_s
        self._calls = calls

    def add_generic_rpc_handlers(self, handlers: Sequence[object]) -> None:
        """Leaves out handlers that look a method up by name: the same methods are registered by name as well."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Adds the methods of a service."""
        bounded = {name: self._bounded(handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, bounded),))

    def _bounded(self, handler: Any) -> Any:
        parse, write = handler.request_deserializer, handler.response_serializer
        if handler.unary_unary:
            return grpc.stream_unary_rpc_method_handler(self._one(handler.unary_unary, parse), None, write)
        if handler.unary_stream:
            one = self._one(handler.unary_stream, parse)
            return grpc.stream_stream_rpc_method_handler(one, None, write)
        assert handler.stream_stream, "the services have no other methods"
        many = self._many(handler.stream_stream, parse)
        return grpc.stream_stream_rpc_method_handler(many, None, write)

    def _one(self, behaviour: Behaviour, parse: Parse) -> Any:
        async def answer(_: AsyncIterator[bytes], context: Context) -> Any:
            try:
                self._calls.enter(context)
                return await behaviour(await open_message(context, self._idle_s, parse), context)
            except RankportError as error:
                await abort(context, self._core, error)

        return answer

    def _many(self, behaviour: Answers, parse: Parse) -> Any:
        async def answers(_: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
            try:
                self._calls.enter(context)
                async for answer in behaviour(open_messages(context, self._idle_s, parse), context):
                    yield answer
            except RankportError as error:
                await abort(context, self._core, error)

        return answers
