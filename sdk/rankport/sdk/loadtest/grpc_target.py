"""A gRPC server under load: bytes out, bytes in, nothing parsed."""

import grpc

from rankport.sdk.channels import Target
from rankport.sdk.loadtest.requests import LoadRequest


class GrpcTarget:
    """Server at a gRPC address. Lives on one event loop; neither retries nor waits for a connection."""

    def __init__(self, address: str, connections: int, timeout_s: float) -> None:
        target = Target.of(address)
        # Channels of equal options would share a connection.
        self._channels = [
            grpc.aio.insecure_channel(
                target.uri,
                [*target.options((), secure=False, retry=False), ("rankport.connection", number)],
            )
            for number in range(connections)
        ]
        self._timeout_s = timeout_s
        self._turn = 0

    async def send(self, request: LoadRequest) -> str:
        """Sends a request and waits for its end: the name of its status."""
        self._turn = (self._turn + 1) % len(self._channels)
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channels[self._turn].unary_unary(
            request.method
        )
        try:
            await call(request.body, timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

    async def close(self) -> None:
        """Ends the connections."""
        for channel in self._channels:
            await channel.close()
