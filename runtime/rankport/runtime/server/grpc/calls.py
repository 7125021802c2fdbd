"""Calls of gRPC: admission by the server's own rule, and errors as statuses with their details."""

import asyncio
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

import grpc
from google.protobuf.message import Message

from rankport.protos.errors import DeadlineExceeded, status_code
from rankport.protos.messages.request_size import Request, request_size
from rankport.protos.priorities import Priority
from rankport.runtime.server.core import Core
from rankport.runtime.server.counts import Outcome
from rankport.runtime.server.failures import told
from rankport.runtime.server.grpc.details import Trailers, trailers_of
from rankport.runtime.server.observing.call import REQUEST_ID, WorkingFor, current_call
from rankport.runtime.server.security.guard import Caller

Context = grpc.aio.ServicerContext[Any, Any]
M = TypeVar("M", bound=Message)
# The message travels twice, percent-encoded and in the details, and peers take 8 KiB of headers in all.
_MAX_ENCODED_MESSAGE = 2048
_TRAVEL_S = 0.1  # by which a call may reach the server, and its deadline pass here, later than in the client


class OpenCall:
    """Context of a call, from its arrival to its answer or the status of what was raised.

    Written out, as it is entered for every call: generators for it cost a tenth of a small one.
    """

    __slots__ = ("_admitted_bytes", "_allowed_s", "_context", "_core", "_request", "_usual", "_writing")

    def __init__(self, context: Context, core: Core, request: Request | None, usual: Priority) -> None:
        self._context = context
        self._core = core
        self._request = request  # that is work; None: the call is none by itself
        self._usual = usual  # class of those that say none
        self._allowed_s: float | None = None
        self._admitted_bytes: int | None = None
        self._writing: asyncio.Future[None] | None = None

    async def __aenter__(self) -> int:
        """Returns the bytes of the request; 0 where the call is none by itself."""
        admission = self._core.admission
        self._allowed_s = self._context.time_remaining()
        admission.opened()
        # Its stub has a class for the type of a callback.
        self._context.add_done_callback(lambda _: admission.closed())  # type: ignore[arg-type]
        try:
            if (call := current_call()) is not None:
                call.take_priority(self._usual)
            return 0 if self._request is None else self._admit(self._request)
        except Exception as error:
            await self._fail(error)

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        admission = self._core.admission
        if self._admitted_bytes is not None:
            admission.leave(self._admitted_bytes)
        if error is None:
            admission.answered()
        elif isinstance(error, asyncio.CancelledError | grpc.aio.InternalError):
            # The latter is what a write meets whose client has left a moment before the call hears of it.
            admission.given_up(why_given_up(self._allowed_s, self._context.time_remaining()))
        elif isinstance(error, Exception):
            await self._fail(error)

    async def write(self, message: Message) -> None:
        """Sends a message of a stream. Raises `DeadlineExceeded` if the client does not read it in time."""
        idle_s = self._core.config.stream_idle_s
        self._writing = asyncio.ensure_future(self._context.write(message))
        try:
            await asyncio.wait((self._writing,), timeout=idle_s)
        except asyncio.CancelledError:
            self._writing.cancel()
            raise
        if not self._writing.done():
            raise DeadlineExceeded(
                f"the client read nothing for {idle_s:g} s (stream_idle_s): open a stream when there is work for it"
            )
        self._writing.result()

    def _admit(self, request: Request) -> int:
        nbytes, items = checked_size(self._core, request)
        self._core.admission.enter(nbytes)
        self._admitted_bytes = nbytes
        self._core.admission.charge(items)
        return nbytes

    async def _fail(self, error: Exception) -> NoReturn:
        self._core.admission.failed(error)
        await self._sent()
        await abort(self._context, self._core, error)

    async def _sent(self) -> None:
        """Waits for what is on its way: gRPC ends no call before, and tells a client that reads on nothing at all.

        Raises what an end does where the server stops meanwhile, and closes the connection.
        """
        if self._writing is None or self._writing.done():
            return
        stopping = asyncio.ensure_future(self._core.admission.stopping.wait())
        try:
            await asyncio.wait((self._writing, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if not self._writing.done():
            raise grpc.aio.AbortError


def seen(
    context: Context, core: Core, method: str, caller: Caller | None = None, *, streams: bool = False
) -> WorkingFor:
    """Has a call observed while the context works for it, and its client told the request's id."""
    said = [(key, value) for key, value in context.invocation_metadata() or () if isinstance(value, str)]
    call = core.observer.begin("grpc", method, said, streams=streams)
    if caller is not None:
        call.client, call.quota, call.only_priority = caller.name, caller.quota, caller.priority
    context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
    return WorkingFor(call)


def open_call(context: Context, core: Core, usual: Priority = "interactive") -> OpenCall:
    """Wraps a call that is no work by itself: whatever it raises ends it with the status of the table.

    `usual` is its class where the client says none.
    """
    return OpenCall(context, core, None, usual)


def answering(context: Context, core: Core, request: Request) -> OpenCall:
    """Wraps the work of a call, within the limits of a request and of what may be pending. Fails as `open_call`."""
    return OpenCall(context, core, request, "interactive")


def request_id(context: Context) -> str:
    """Reads the id that the client gave the request, "" if none: what an alias with several targets goes by."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID:
            return value.decode(errors="replace") if isinstance(value, bytes) else value
    return ""


def checked_size(core: Core, request: Request) -> tuple[int, int]:
    """Measures a request, of a call of its own or of a stream, in bytes and items. `LimitExceeded`: it is too large.

    Once a request: protobuf writes a message out to know its bytes.
    """
    nbytes = request.ByteSize()
    core.limits.check_bytes(nbytes)
    size = request_size(request)
    core.limits.check(size)
    return nbytes, size.items


def fitting(response: M, core: Core) -> M:
    """Returns an answer that may be sent; `LimitExceeded`, which says so, instead of gRPC's own refusal."""
    core.limits.check_bytes(response.ByteSize(), "the answer")
    return response


def why_given_up(allowed_s: float | None, left_s: float | None) -> Outcome:
    """Tells a deadline from a cancellation: a client resets a call at its own deadline, a moment before ours."""
    if allowed_s is None or left_s is None:
        return Outcome.CANCELLED
    return Outcome.DEADLINE if left_s <= min(_TRAVEL_S, allowed_s / 5) else Outcome.CANCELLED


async def abort(context: Context, core: Core, error: Exception) -> NoReturn:
    """Ends a call with the status of an error, and its details."""
    failure = told(error)
    core.observer.recent.failed(failure)
    code, message = status_code(failure), _clipped(str(failure))
    retry_after_s = core.admission.retry_hint_s(failure)
    trailers = (*trailers_of(code, message, failure, retry_after_s), *_named())
    await context.abort(code, message, trailing_metadata=trailers)


def _named() -> Trailers:
    call = current_call()
    return () if call is None else ((REQUEST_ID, call.request_id),)


def _clipped(message: str) -> str:
    if 12 * len(message) <= _MAX_ENCODED_MESSAGE or (
        len(message) <= _MAX_ENCODED_MESSAGE and len(quote(message)) <= _MAX_ENCODED_MESSAGE
    ):
        return message
    return message[: _MAX_ENCODED_MESSAGE // 12] + "…"  # a character takes up to 12 encoded bytes
