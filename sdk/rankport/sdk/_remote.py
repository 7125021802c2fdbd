"""Parts that the blocking and the asyncio client share: errors, and the messages of a stream."""

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar, cast

import grpc

from rankport.protos.arguments import checked_count
from rankport.protos.errors import (
    ERROR_METADATA_KEY,
    InvalidRequest,
    LimitExceeded,
    Overloaded,
    PairingError,
    RankportError,
    RequestCancelled,
    Unavailable,
    from_status,
)
from rankport.protos.messages import wire
from rankport.protos.types import EncodedText, Side, Truncation
from rankport.protos.v1 import rankport_pb2 as pb

Text = str | Sequence[int]
T = TypeVar("T")

# What asyncio's gRPC tells where the server has ended a stream and its status is not read yet, whatever that is.
_ENDED_MEANWHILE = "Internal error from Core"
_PUSHBACK = "grpc-retry-pushback-ms"
_OTHER_NAME = (
    "; the server's TLS certificate is of another name: call it by that, or give "
    "options=[('grpc.ssl_target_name_override', NAME)]"
)
_HINTS = {  # the first that fits
    "HTTP proxy returned": "; the proxy is that of https_proxy or http_proxy: to go past it, set no_proxy",
    "WRONG_VERSION_NUMBER": "; the server speaks no TLS there: leave tls (of commands: RANKPORT_TLS) out",
    "certificate has expired": "; the server's TLS certificate has: renew it there, or set this machine's clock",
    "certificate is not yet valid": "; the server's TLS certificate is of later: replace it, or set the clock here",
    "Hostname Verification Check failed": _OTHER_NAME,
    "is not in peer certificate": _OTHER_NAME,  # grpcio before 1.80, which tells no more of the next either
    "CERTIFICATE_VERIFY_FAILED": "; the server's certificate is of no authority known here, or not of today: give "
    "tls=Tls(ca=FILE) (of commands: RANKPORT_TLS_CA), or look at its dates",
    "Socket closed": "; if the server speaks TLS there, give tls=Tls(ca=FILE) or tls=True (of commands: "
    "RANKPORT_TLS_CA, RANKPORT_TLS)",
}


@contextmanager
def rankport_errors(address: str, timeout_s: float | None) -> Iterator[None]:
    """Wraps a call: its failure becomes the error that a `Ranker` in process would raise."""
    try:
        yield
    except grpc.RpcError as error:
        raise error_of(cast(grpc.Call, error), address, timeout_s) from error
    except asyncio.CancelledError as error:
        # Of a call that its caller cancels the task is cancelled: else the channel was closed under it.
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
        raise RequestCancelled(f"the call to {address} was cancelled: its client was closed") from error
    except (ValueError, grpc.aio.UsageError) as error:  # what the two kinds of closed channels raise
        if isinstance(error, RankportError):
            raise
        raise closed_client(address) from error


def closed_client(address: str) -> Unavailable:
    """Makes the error of a call with a client that is closed."""
    error = Unavailable(f"the client of {address} is closed; make a new one")
    error.retry_after_s = -1.0
    return error


def error_of(call: grpc.Call, address: str, timeout_s: float | None) -> RankportError:
    """Makes the error of a failed call: the server's own, or a description of what kept the answer away."""
    trailers = {key: _text(value) for key, value in call.trailing_metadata() or ()}
    error = _told_by(call.code(), call.details() or "", trailers.get(ERROR_METADATA_KEY), address, timeout_s)
    if isinstance(error, Overloaded):
        # A limit of gRPC's own, or of what stands between, names no error: it may refuse the same again and again.
        unnamed = -1.0 if ERROR_METADATA_KEY not in trailers else None
        error.retry_after_s = _seconds(trailers.get(_PUSHBACK), unnamed)
    elif isinstance(error, Unavailable):
        error.retry_after_s = _seconds(trailers.get(_PUSHBACK), None)
    return error


def lost_its_reason(error: RankportError) -> bool:
    """Says whether asyncio's gRPC sent a message on an ended stream before it read why that had ended."""
    cause = error.__cause__
    return isinstance(cause, grpc.aio.AioRpcError) and cause.details() == _ENDED_MEANWHILE


def _told_by(
    code: grpc.StatusCode, details: str, name: str | None, address: str, timeout_s: float | None
) -> RankportError:
    # A deadline is the caller's: the server knows only what was left of it.
    if name is not None and (code is not grpc.StatusCode.DEADLINE_EXCEEDED or timeout_s is None):
        return from_status(code, details, name)
    match code:
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            details = f"no answer from {address} within {timeout_s} s: allow more time, or send less at once"
        case grpc.StatusCode.UNAVAILABLE:
            details = f"{address} cannot be reached: {details}{_hint(details)}"
        case grpc.StatusCode.INTERNAL if details == "Exception serializing request!":
            return LimitExceeded("the request has over 2 GiB, which no message holds: send fewer items")
        case grpc.StatusCode.INTERNAL if details == _ENDED_MEANWHILE:
            code, details = (
                grpc.StatusCode.UNAVAILABLE,
                f"{address} ended the stream as a message was sent, and gRPC lost the reason: call again",
            )
        case grpc.StatusCode.INTERNAL | grpc.StatusCode.CANCELLED if "RST_STREAM" in details:
            # Of a server that is lost a proxy has no status to pass on: nginx and HAProxy end the call so.
            code, details = (
                grpc.StatusCode.UNAVAILABLE,
                f"{address} cut the call off without a status, as a proxy does whose server is lost, or which waits no "
                f"longer: {details}",
            )
        case grpc.StatusCode.CANCELLED:
            details = f"the call to {address} was cancelled"
        case grpc.StatusCode.UNIMPLEMENTED if details.startswith("Compression algorithm"):
            return InvalidRequest(
                f"{details} {address} takes no compressed messages: leave that out of options"
            )
        case grpc.StatusCode.UNIMPLEMENTED:
            details = (
                f"{address} answered UNIMPLEMENTED: the call is of another port of the server (models are loaded and "
                "switched at its --admin-port, and nothing else is), or of a newer one"
            )
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "message larger than max" in details:
            return LimitExceeded(f"{details}; send fewer items, or raise the limit of {address}")
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "metadata size exceeds" in details:
            return LimitExceeded(
                f"{details}; a token and other metadata may have 8 KiB together at {address}"
            )
        case grpc.StatusCode.UNKNOWN if "header with status: 413" in details:
            return LimitExceeded(
                f"a proxy at {address} takes no request so large; send fewer items, or raise its limit"
            )
        case _:
            details = f"{address} answered {code.name}: {details}"
    return from_status(code, details)


def _hint(details: str) -> str:
    """Says what may be wrong, by what gRPC tells of a connection that was never made."""
    hints = (hint for word, hint in _HINTS.items() if word in details)
    return next(hints, "") if "failed to connect" in details else ""


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _seconds(pushback_ms: str | None, without: float | None) -> float | None:
    """Reads a hint of when to come back; what is no whole number means never, as gRPC has it."""
    if pushback_ms is None:
        return without
    return int(pushback_ms) / 1000 if re.fullmatch(r"\d{1,9}", pushback_ms) else -1.0


async def in_loop(values: AsyncIterable[T] | Iterable[T]) -> AsyncIterator[T]:
    """Yields the values of a source of either sort."""
    if isinstance(values, AsyncIterable):
        async for value in values:
            yield value
    else:
        for value in values:
            yield value


class ChunkRequests:
    """Request messages of one encode stream, drawn from (id, text) pairs as the stream takes them.

    An error of the source, or a text that does not fit the wire, ends the stream in good order and waits in
    `raise_error`: raised inside gRPC's own reader it would only be logged.
    """

    def __init__(
        self, model: str, truncation: Truncation, chunk_texts: int, side: Side | None = None
    ) -> None:
        self._model = model
        self._truncation = truncation
        self._side = side
        self._chunk_texts = checked_count(chunk_texts, "chunk_texts")
        self._chunk: list[tuple[str, Text]] = []
        self._encoder = ""  # its fingerprint, from the first answer on
        self._error: Exception | None = None

    def drawn(self, texts: Iterable[tuple[str, Text]]) -> Iterator[pb.EncodeStreamRequest]:
        """Yields the messages of all texts."""
        with self._keeping_errors():
            for pair in texts:
                yield from self._add(pair)
            yield from self._rest()

    async def drawn_async(
        self, texts: AsyncIterable[tuple[str, Text]]
    ) -> AsyncIterator[pb.EncodeStreamRequest]:
        """Yields the messages of all texts."""
        with self._keeping_errors():
            async for pair in texts:
                for request in self._add(pair):
                    yield request
            for request in self._rest():
                yield request

    def results(self, response: pb.EncodeStreamResponse) -> list[EncodedText]:
        """Reads a result per text of a chunk. Raises `PairingError` if another encoder made those before."""
        if self._encoder not in ("", response.fingerprint):
            raise PairingError(
                f"the stream broke, and the server that it goes on with has the encoder {response.fingerprint!r}; what "
                f"came before is of {self._encoder!r}: encode the rest in another stream, whose tokens are kept apart"
            )
        self._encoder = response.fingerprint
        return wire.stream_results(response)

    def raise_error(self) -> None:
        """Raises what ended the source early, if anything did."""
        if self._error is not None:
            raise self._error

    @contextmanager
    def _keeping_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._error = error

    def _add(self, pair: tuple[str, Text]) -> Iterator[pb.EncodeStreamRequest]:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InvalidRequest(f"texts has {pair!r:.60}; give pairs of an id and a text")
        self._chunk.append((pair[0], pair[1]))
        if len(self._chunk) >= self._chunk_texts:
            yield from self._rest()

    def _rest(self) -> Iterator[pb.EncodeStreamRequest]:
        if self._chunk:
            yield wire.stream_request(self._model, self._chunk, self._truncation, self._side)
            self._chunk = []
