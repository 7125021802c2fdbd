"""Clients that each have a connection of their own, and make calls at once without a retry."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import grpc

from rankport.protos.generation import Sampling
from rankport.protos.messages import generate_wire, wire
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc

# Channels of one process share connections otherwise, and a connection is one front's.
_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended."""

    code: grpc.StatusCode
    response: pb.ScoreResponse | None
    trailers: dict[str, str | bytes]


class Callers:
    """Stubs, one a connection."""

    def __init__(self, channels: Sequence[grpc.Channel]) -> None:
        self._channels = channels
        self._stubs = [pb_grpc.ScoringStub(channel) for channel in channels]  # type: ignore[no-untyped-call]

    def begin(self, items: Sequence[str], timeout_s: float = 30.0, model: str = "mix") -> list[grpc.Future]:
        """Begins a call on every connection."""
        request = wire.score_request(model, "head nurse", items, "error", "skip")
        return [stub.Score.future(request, timeout=timeout_s) for stub in self._stubs]

    def write(
        self, model: str, sampling: Sampling, texts: int = 1, timeout_s: float = 30.0
    ) -> "list[Streamed]":
        """Begins so many texts on every connection."""
        request = generate_wire.generate_request(model, [5], sampling, "error")
        stubs = [pb_grpc.GenerationStub(channel) for channel in self._channels]  # type: ignore[no-untyped-call]
        return [Streamed(stub.Generate(request, timeout=timeout_s)) for stub in stubs for _ in range(texts)]


class Streamed:
    """Text as it comes, read by a thread."""

    def __init__(self, call: grpc.Call) -> None:
        """Begins to read."""
        self.ids: list[int] = []
        self.code: grpc.StatusCode | None = None  # once it has ended
        self.trailers: dict[str, str | bytes] = {}
        self._call = call
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait(self) -> "Streamed":
        """Waits until it has ended."""
        self._thread.join(40.0)
        assert self.code is not None, "a text has no end"
        return self

    def cancel(self) -> None:
        """Gives it up."""
        self._call.cancel()

    def _read(self) -> None:
        try:
            for message in self._call:  # type: ignore[attr-defined]
                self.ids += message.token_ids
        except grpc.RpcError:
            pass
        self.trailers = dict(self._call.trailing_metadata() or ())
        self.code = self._call.code()


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
    if error is None:
        return Ended(grpc.StatusCode.OK, call.result(), {})
    return Ended(call.code(), None, dict(call.trailing_metadata() or ()))  # type: ignore[attr-defined]
