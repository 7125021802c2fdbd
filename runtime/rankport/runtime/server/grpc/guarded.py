"""Ends of calls that reach no method: their callers have not the right, or there is no such method.

Nothing of their messages is read.
"""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from rankport.protos.errors import PermissionDenied, Unauthenticated
from rankport.runtime.server.core import Core
from rankport.runtime.server.counts import Outcome
from rankport.runtime.server.grpc.calls import Context, open_call, seen
from rankport.runtime.server.observing.call import REQUEST_ID
from rankport.runtime.server.security.guard import AUTHORIZATION, Caller
from rankport.runtime.server.security.tokens import Right


def caller_of(metadata: Any, core: Core, right: Right) -> Caller:
    """Says whose call it is, by its metadata. Raises as `Guard.caller`."""
    given = next((value for key, value in metadata or () if key == AUTHORIZATION), None)
    return core.guard.caller(given if isinstance(given, str) else None, right)


class Guarded(grpc.GenericRpcHandler):
    """Handlers of one service, but for those methods that are open to everyone."""

    def __init__(
        self, handlers: grpc.GenericRpcHandler, core: Core, right: Right, open_to_all: frozenset[str]
    ) -> None:
        self._handlers, self._core, self._right, self._open = handlers, core, right, open_to_all

    def service(self, handler_call_details: Any) -> Any:
        """Finds the handler of a call: a refusal where its caller may not."""
        handler = self._handlers.service(handler_call_details)
        service, _, method = handler_call_details.method.strip("/").rpartition("/")
        if handler is None or method in self._open:
            return handler
        try:
            caller_of(handler_call_details.invocation_metadata, self._core, self._right)
        except (Unauthenticated, PermissionDenied) as error:
            # Of all forms of a method this one alone begins without a message.
            name = f"{service.rpartition('.')[2]}.{method}"
            return grpc.stream_stream_rpc_method_handler(_refusing(self._core, name, error))
        return handler


def _refusing(core: Core, method: str, error: Exception) -> Any:
    async def refuse(requests: AsyncIterator[bytes], context: Context) -> None:
        with seen(context, core, method):
            async with open_call(context, core):
                raise error

    return refuse


class NoMethod(grpc.GenericRpcHandler):
    """Handler of whatever no service before it has; the last one of a server."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def service(self, handler_call_details: Any) -> Any:
        """Finds the handler of a call: a refusal, whose message is the one that gRPC's servers have."""
        return grpc.stream_stream_rpc_method_handler(self._refuse)

    async def _refuse(self, requests: AsyncIterator[bytes], context: Context) -> None:
        with seen(context, self._core, "") as call:
            self._core.admission.counts.add(Outcome.INVALID)
            self._core.observer.end(call, "UNIMPLEMENTED")
        named = ((REQUEST_ID, call.request_id),)
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!", named)
