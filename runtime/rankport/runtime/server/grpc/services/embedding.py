"""Service `Embedding`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, ExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import of_single_item
from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest, Overloaded
from rankport.protos.messages import sparse_wire, wire
from rankport.protos.messages.request_size import request_size
from rankport.protos.sparse import SparseRows
from rankport.protos.types import ItemStatus, LookupResult, ModelDescription
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.protos.wording import counted
from rankport.runtime.kinds.capabilities import EncodingModel
from rankport.runtime.scheduling.futures import resolved
from rankport.runtime.server.concurrent_work import in_order
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.calls import (
    Context,
    answering,
    checked_size,
    fitting,
    open_call,
    request_id,
)
from rankport.runtime.server.grpc.streams import OpenStreams, StreamMessages
from rankport.runtime.server.models.models import Served, tokens_of
from rankport.runtime.server.scoring.looking_up import look_up

T = TypeVar("T")
Rows = NDArray[np.floating]  # [texts, k, hidden]
Row = NDArray[np.floating] | InvalidRequest  # [k, hidden], or the reason why there is none
SubmitTexts = Callable[[ItemColumns, float | None], "Future[Rows]"]
"""Way of texts to a model, with all that is asked of the call."""

# A stream is bulk work: it gives way to calls that wait for an answer, for about 13 s in all.
_OVERLOAD_DELAYS_S = tuple(0.05 * 2**attempt for attempt in range(8))
_QUOTA_WAIT_S = 5.0  # at most, from one try to the next of a client that is over its quota


class EmbeddingService(pb_grpc.EmbeddingServicer):
    """Answers Encode, EncodeSparse and EncodeStream with the models of a server that encode."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._open_streams = OpenStreams(core.config.max_connection_streams)

    async def Encode(self, request: pb.EncodeRequest, context: Context) -> pb.EncodeResponse:  # noqa: N802
        async with answering(context, self._core, request):
            served = self._core.models.encoder(request.model, request_id(context))
            self._check_answer(served.description, request_size(request).items)

            def submit(timeout_s: float | None) -> Future[Rows]:
                query = wire.encode_query(request)
                return served.model.submit_texts(
                    query.texts, timeout_s, truncation=query.truncation, side=query.side
                )

            with served:
                rows = await self._core.submitter.run(submit, context.time_remaining())
            return fitting(wire.encode_response(rows, served.description.fingerprint), self._core)

    async def EncodeSparse(  # noqa: N802
        self, request: pb.EncodeRequest, context: Context
    ) -> pb.EncodeSparseResponse:
        async with answering(context, self._core, request):
            served = self._core.models.sparse_encoder(request.model, request_id(context))

            def submit(timeout_s: float | None) -> Future[SparseRows]:
                query = wire.encode_query(request)
                return served.model.submit_sparse(
                    query.texts, timeout_s, truncation=query.truncation, side=query.side
                )

            with served:
                rows = await self._core.submitter.run(submit, context.time_remaining())
            return fitting(sparse_wire.sparse_response(rows, served.description.fingerprint), self._core)

    # A coroutine that writes sees the call's cancellation; a generator, suspended at its yield, would not.
    async def EncodeStream(  # type: ignore[override]  # noqa: N802
        self, requests: AsyncIterator[pb.EncodeStreamRequest], context: Context
    ) -> None:
        config = self._core.config
        call = open_call(context, self._core, "background")
        async with call:
            self._core.admission.check_running()
            with self._open_streams.one_of(context.peer()):
                messages = StreamMessages(requests, self._core, "encodes")
                chunks = self._chunks(messages, context)
                async with aclosing(in_order(chunks, config.stream_window)) as responses:
                    async for response in responses:
                        await call.write(fitting(response, self._core))

    async def _chunks(
        self, messages: StreamMessages[pb.EncodeStreamRequest], context: Context
    ) -> AsyncGenerator[Coroutine[Any, Any, pb.EncodeStreamResponse], None]:
        """Yields the work of each message. Model, truncation and side are those of the first."""
        first: pb.EncodeStreamRequest | None = None
        asked: wire.EncodeQuery | None = None
        number = 0
        served: Served[EncodingModel] | None = None
        async with AsyncExitStack() as in_use:
            each = await in_use.enter_async_context(aclosing(aiter(messages)))
            async for request in each:
                first = first or request
                number += 1
                nbytes, items = checked_size(self._core, request)
                if served is None:  # the whole stream has one encoder
                    served = self._core.models.encoder(first.model, request_id(context))
                    in_use.enter_context(served)
                self._check_answer(served.description, items)
                query = _stream_query(request, first, number)
                asked = asked or query
                submit = partial(served.model.submit_texts, truncation=asked.truncation, side=asked.side)
                chunk = _Chunk(served.description, submit, query.texts, request.ids, nbytes)
                yield self._answer(chunk, messages, context)

    async def _answer(
        self, chunk: "_Chunk", messages: StreamMessages[pb.EncodeStreamRequest], context: Context
    ) -> pb.EncodeStreamResponse:
        with messages.working(), ExitStack() as work:

            async def enter() -> None:
                work.enter_context(self._core.admission.admitted(chunk.nbytes, streamed=True))

            await _patiently(enter)
            self._core.admission.charge(len(chunk.texts))
            parts = await self._encode_all_good(chunk.submit, chunk.texts, context)
        return chunk.response(parts)

    async def _encode_all_good(self, submit: SubmitTexts, texts: ItemColumns, context: Context) -> list[Row]:
        """Encodes each text, or gives the reason why it cannot be: bad texts are found by halving."""

        async def encode() -> Rows:
            return await self._core.submitter.run(partial(submit, texts), context.time_remaining())

        try:
            return list(await _patiently(encode))
        except InvalidRequest as error:
            if len(texts) <= 1:
                return [error] * len(texts)
        middle = len(texts) // 2
        left = await self._encode_all_good(submit, texts.part(0, middle), context)
        return left + await self._encode_all_good(submit, texts.part(middle, len(texts)), context)

    async def Lookup(self, request: pb.LookupRequest, context: Context) -> pb.LookupResponse:  # noqa: N802
        async with answering(context, self._core, request):
            served = self._core.models.looking_up(request.model)
            tokens = tokens_of(served)
            assert tokens is not None, "it looks up"
            self._core.limits.check_bytes(len(request.keys) * tokens.spec.nbytes, "the answer")

            def submit(_: float | None) -> Future[LookupResult]:
                return resolved(look_up(tokens, request.keys[:]))

            with served:
                result = await self._core.submitter.run(submit, context.time_remaining())
            return fitting(wire.lookup_response(result), self._core)

    def _check_answer(self, model: ModelDescription, texts: int) -> None:
        """Raises `LimitExceeded` before anything is computed for an answer that could not be sent."""
        values = texts * model.embedding_tokens * model.hidden_size
        self._core.limits.check_bytes(values * np.dtype(model.embedding_dtype).itemsize, "the answer")


@dataclass(frozen=True, slots=True)
class _Chunk:
    """One message of a stream."""

    model: ModelDescription
    submit: SubmitTexts
    texts: ItemColumns
    ids: Sequence[str]
    nbytes: int

    def response(self, parts: Sequence[Row]) -> pb.EncodeStreamResponse:
        """Writes the answer: rows of NaN for texts that failed, with the reason."""
        failures = [part if isinstance(part, InvalidRequest) else None for part in parts]
        made = (part.shape for part in parts if not isinstance(part, InvalidRequest))
        # A query of late interaction has vectors of its own number.
        shape = next(made, (self.model.embedding_tokens, self.model.hidden_size))
        embeddings = np.full((len(parts), *shape), np.nan, np.dtype(self.model.embedding_dtype))
        for row, part in zip(embeddings, parts, strict=True):
            if not isinstance(part, InvalidRequest):
                row[:] = part
        return wire.stream_response(
            ids=self.ids,
            embeddings=embeddings,
            status=[ItemStatus.FAILED if failure else ItemStatus.OK for failure in failures],
            messages=[of_single_item(str(failure)) if failure else "" for failure in failures],
            fingerprint=self.model.fingerprint,
        )


async def _patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """Tries again where there is an overload, for as long as bulk work waits."""
    for delay_s in _OVERLOAD_DELAYS_S:
        try:
            return await attempt()
        except Overloaded as error:
            await asyncio.sleep(max(delay_s, min(error.retry_after_s or 0.0, _QUOTA_WAIT_S)))
    return await attempt()


def _stream_query(
    request: pb.EncodeStreamRequest, first: pb.EncodeStreamRequest, number: int
) -> wire.EncodeQuery:
    try:
        _check_stays(request, first)
        query = wire.encode_query(request)
    except InvalidRequest as error:
        raise type(error)(f"message {number} of the stream: {error}") from error
    if request.ids and len(request.ids) != len(query.texts):
        raise InvalidRequest(
            f"message {number} of the stream has {len(request.ids)} ids for {counted(len(query.texts), 'text')}"
        )
    return query


def _check_stays(request: pb.EncodeStreamRequest, first: pb.EncodeStreamRequest) -> None:
    if request.model not in ("", first.model):
        raise InvalidRequest(f"model is {request.model!r}, but the stream began with {first.model!r}")
    if request.truncation not in (pb.TRUNCATION_UNSPECIFIED, first.truncation):
        raise InvalidRequest(
            f"truncation is {request.truncation}, but the stream began with {first.truncation}"
        )
    if request.side not in (pb.SIDE_UNSPECIFIED, first.side):
        raise InvalidRequest(f"side is {request.side}, but the stream began with {first.side}")
