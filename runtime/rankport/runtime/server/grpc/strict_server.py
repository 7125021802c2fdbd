"""Refusal of messages that are no protobuf of their type, as of any malformed request: not a failure of the server."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from rankport.protos.errors import InvalidRequest
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.calls import Context, open_call

Behaviour = Callable[[Any, Context], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class _Malformed:
    """Message that could not be parsed."""

    reason: str


class StrictServer:
    """Stands for a server where services are added to it: their methods then never see a message that is malformed."""

    def __init__(self, server: grpc.aio.Server, core: Core, service: str | None = None) -> None:
        """Adds to `server`, under the name `service` where that on the wire is not that of the stubs."""
        self._server = server
        self._service = service
        self._core = core

    def add_generic_rpc_handlers(self, handlers: Sequence[object]) -> None:
        """Leaves out handlers that look a method up by name: the same methods are registered by name as well."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Adds the methods of a service."""
        strict = {name: self._strict(handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(self._service or service, strict),)
        )

    def _strict(self, handler: Any) -> Any:
        parse, write = _parsing(handler.request_deserializer), handler.response_serializer
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._unary(handler.unary_unary), parse, write)
        assert handler.stream_stream, "the services have no other methods"
        return grpc.stream_stream_rpc_method_handler(self._stream(handler.stream_stream), parse, write)

    def _unary(self, behaviour: Behaviour) -> Any:
        async def answer(request: Any, context: Context) -> Any:
            if isinstance(request, _Malformed):
                async with open_call(context, self._core):
                    raise InvalidRequest(request.reason)
            return await behaviour(request, context)

        return answer

    def _stream(self, behaviour: Behaviour) -> Any:
        async def answer(requests: AsyncIterator[Any], context: Context) -> Any:
            return await behaviour(_well_formed(requests), context)

        return answer


def _parsing(parse: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    assert parse is not None

    def parse_or_tell(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError as error:
            return _Malformed(f"the message cannot be parsed: {error}")

    return parse_or_tell


async def _well_formed(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        if isinstance(request, _Malformed):
            raise InvalidRequest(request.reason)
        yield request
