"""`NoMethod`: the end of calls of methods that there are not. Counted as all calls, which gRPC's own refusal is not."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from rankport.runtime.server.core import Core
from rankport.runtime.server.counts import Outcome
from rankport.runtime.server.grpc.calls import Context, seen
from rankport.runtime.server.observing.call import REQUEST_ID


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
