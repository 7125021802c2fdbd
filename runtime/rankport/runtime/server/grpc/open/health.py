"""`HealthService`: health of a server and its models by name, in gRPC's own protocol.

grpc-health-checking has one too, which writes to a watcher while it keeps all others of the service from being told,
and the server from changing it: one watcher that takes nothing in would hold up every report, and the stop.
"""

import asyncio
from collections.abc import Mapping

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rankport.runtime.server.grpc.calls import Context

_SERVING = {True: health_pb2.HealthCheckResponse.SERVING, False: health_pb2.HealthCheckResponse.NOT_SERVING}
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Health as it was told last. On the server's event loop."""

    def __init__(self) -> None:
        self._serving: Mapping[str, bool] = {}
        self._changed = asyncio.Event()  # another one after each change
        self._leaving = False

    def tell(self, serving: Mapping[str, bool]) -> None:
        """Tells what serves, by the names that may be asked for: all there are. In vain after `leave`."""
        if not self._leaving and serving != self._serving:
            self._change(serving)

    def leave(self) -> None:
        """Tells that nothing serves any more, for good."""
        self._leaving = True
        self._change(dict.fromkeys(self._serving, False))

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        serving = self._serving.get(request.service)
        if serving is None:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return health_pb2.HealthCheckResponse(status=_SERVING[serving])

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:  # noqa: N802
        told: int | None = None
        while True:
            changed, serving = self._changed, self._serving.get(request.service)
            status = _UNKNOWN if serving is None else _SERVING[serving]
            if status != told:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            await changed.wait()

    def _change(self, serving: Mapping[str, bool]) -> None:
        self._serving = dict(serving)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
