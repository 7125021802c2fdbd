"""A gRPC server under load: bytes out, bytes in, nothing parsed."""

import grpc

from rankport.protos.priorities import PRIORITIES, PRIORITY_KEY, Priority
from rankport.sdk.loadtest.requests import LoadRequest
from rankport.sdk.loadtest.result import OK, Ended
from rankport.sdk.transport.access import Tls, checked_token, credentials_of, warn_in_clear
from rankport.sdk.transport.channels import ChannelOptions, Target
from rankport.sdk.transport.tracing import model_metadata


class GrpcTarget:
    """Server at a gRPC address. Lives on one event loop; neither retries nor waits for a connection."""

    def __init__(
        self,
        address: str,
        connections: int,
        timeout_s: float,
        *,
        token: str | None = None,
        tls: Tls | bool = False,
    ) -> None:
        """Connects with the first requests. Raises `InvalidRequest` for no address, or unreadable files of TLS."""
        credentials = credentials_of(tls, None)
        shown = () if checked_token(token) is None else (("authorization", f"Bearer {token}"),)
        self._metadata = {each: (*shown, (PRIORITY_KEY, each)) for each in PRIORITIES}
        target = Target.of(address)
        warn_in_clear(token, target.told, clear=credentials is None and not target.is_here)
        # Channels of equal options would share a connection.
        options = [*target.options((), secure=credentials is not None)]
        self._channels = [
            _channel(target.uri, credentials, [*options, ("rankport.connection", number)])
            for number in range(connections)
        ]
        self._timeout_s = timeout_s
        self._turn = 0

    async def send(self, request: LoadRequest, priority: Priority = "interactive") -> Ended:
        """Sends a request of a class and waits for its end."""
        self._turn = (self._turn + 1) % len(self._channels)
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channels[self._turn].unary_unary(
            request.method
        )
        metadata = self._metadata[priority] + model_metadata(request.model)
        try:
            reply = await call(request.body, timeout=self._timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return Ended(error.code().name, error.details() or "")
        return Ended(OK, reply=reply)

    async def close(self) -> None:
        """Ends the connections."""
        for channel in self._channels:
            await channel.close()


def _channel(
    uri: str, credentials: grpc.ChannelCredentials | None, options: ChannelOptions
) -> grpc.aio.Channel:
    if credentials is None:
        return grpc.aio.insecure_channel(uri, options)
    return grpc.aio.secure_channel(uri, credentials, options)
