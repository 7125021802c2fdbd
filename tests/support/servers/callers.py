"""Clients that each have a connection of their own, and make calls at once without a retry."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import grpc

from rankport.protos.messages import wire
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc

# Channels of one process share connections otherwise, and a connection is one front's.
_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended."""

    code: grpc.StatusCode
    at_s: float  # monotonic
    response: pb.ScoreResponse | None
    trailers: dict[str, str | bytes]


class Callers:
    """Stubs, one a connection."""

    def __init__(self, channels: Sequence[grpc.Channel]) -> None:
        self._stubs = [pb_grpc.ScoringStub(channel) for channel in channels]  # type: ignore[no-untyped-call]

    def begin(self, items: Sequence[str], timeout_s: float = 30.0, model: str = "mix") -> list[grpc.Future]:
        """Begins a call on every connection."""
        request = wire.score_request(model, "head nurse", items, "error", "skip")
        return [stub.Score.future(request, timeout=timeout_s) for stub in self._stubs]


@contextmanager
def callers(address: str, count: int) -> Iterator[Callers]:
    """Opens so many connections until the end of the block."""
    with ExitStack() as stack:
        channels = [grpc.insecure_channel(address, options=_OWN_CONNECTION) for _ in range(count)]
        for channel in channels:
            stack.callback(channel.close)
            grpc.channel_ready_future(channel).result(10.0)
        yield Callers(channels)


def ended(call: grpc.Future) -> Ended:
    """Waits for a call."""
    error = call.exception()
    at_s = time.monotonic()
    if error is None:
        return Ended(grpc.StatusCode.OK, at_s, call.result(), {})
    return Ended(call.code(), at_s, None, dict(call.trailing_metadata() or ()))  # type: ignore[attr-defined]
