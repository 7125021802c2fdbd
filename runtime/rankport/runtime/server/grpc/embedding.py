"""Service `Embedding`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankport.protos import wire
from rankport.protos.arguments import of_single_item
from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest, Overloaded
from rankport.protos.types import ItemStatus, ModelDescription
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.calls import Context, answering
from rankport.runtime.server.ordered import in_order

Rows = NDArray[np.floating]  # [texts, k, hidden]
SubmitTexts = Callable[[ItemColumns, float | None], "Future[Rows]"]
"""Way of texts to a model, with all that is asked of the call."""

# A stream is bulk work: it gives way to calls that wait for an answer, for about 13 s in all.
_OVERLOAD_DELAYS_S = tuple(0.05 * 2**attempt for attempt in range(8))


class EmbeddingService(pb_grpc.EmbeddingServicer):
    """Answers Encode and EncodeStream with the models of a server that encode."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def Encode(self, request: pb.EncodeRequest, context: Context) -> pb.EncodeResponse:  # noqa: N802
        async with answering(context, self._core.admission):
            served = self._core.models.encoder(request.model)

            def submit(timeout_s: float | None) -> Future[Rows]:
                query = wire.encode_query(request)
                return served.model.submit_texts(
                    query.texts, timeout_s, truncation=query.truncation, side=query.side
                )

            rows = await self._core.submitter.run(submit, context.time_remaining())
            return wire.encode_response(rows, served.description.fingerprint)

    # A coroutine that writes sees the call's cancellation; a generator, suspended at its yield, would not.
    async def EncodeStream(  # type: ignore[override]  # noqa: N802
        self, requests: AsyncIterator[pb.EncodeStreamRequest], context: Context
    ) -> None:
        async with answering(context, self._core.admission):
            chunks = self._chunks(requests, context)
            async with aclosing(in_order(chunks, self._core.config.stream_window)) as responses:
                async for response in responses:
                    await context.write(response)

    async def _chunks(
        self, requests: AsyncIterator[pb.EncodeStreamRequest], context: Context
    ) -> AsyncIterator[Coroutine[Any, Any, pb.EncodeStreamResponse]]:
        """Yields the work of each message. Model, truncation and side are those of the first."""
        first: pb.EncodeStreamRequest | None = None
        asked: wire.EncodeQuery | None = None
        number = 0
        async for request in requests:
            first = first or request
            number += 1
            query = _stream_query(request, first, number)
            asked = asked or query
            served = self._core.models.encoder(first.model)
            submit = partial(served.model.submit_texts, truncation=asked.truncation, side=asked.side)
            yield self._encode_chunk(served.description, submit, query.texts, request.ids, context)

    async def _encode_chunk(
        self,
        model: ModelDescription,
        submit: SubmitTexts,
        texts: ItemColumns,
        ids: Sequence[str],
        context: Context,
    ) -> pb.EncodeStreamResponse:
        parts = await self._encode_all_good(submit, texts, context)
        failures = [part if isinstance(part, InvalidRequest) else None for part in parts]
        embeddings = _failed_rows(model, len(texts))
        for row, part in zip(embeddings, parts, strict=True):
            if not isinstance(part, InvalidRequest):
                row[:] = part
        return wire.stream_response(
            ids=ids,
            embeddings=embeddings,
            status=[ItemStatus.FAILED if failure else ItemStatus.OK for failure in failures],
            messages=[of_single_item(str(failure)) if failure else "" for failure in failures],
            fingerprint=model.fingerprint,
        )

    async def _encode_all_good(
        self, submit: SubmitTexts, texts: ItemColumns, context: Context
    ) -> "list[NDArray[np.floating] | InvalidRequest]":
        """Encodes to a row [k, hidden] a text, or the reason why it has none: bad texts are found by halving."""
        try:
            return list(await self._submit_patiently(submit, texts, context))
        except InvalidRequest as error:
            if len(texts) <= 1:
                return [error] * len(texts)
        middle = len(texts) // 2
        left = await self._encode_all_good(submit, texts.part(0, middle), context)
        return left + await self._encode_all_good(submit, texts.part(middle, len(texts)), context)

    async def _submit_patiently(self, submit: SubmitTexts, texts: ItemColumns, context: Context) -> Rows:
        run = partial(submit, texts)
        for delay_s in _OVERLOAD_DELAYS_S:
            try:
                return await self._core.submitter.run(run, context.time_remaining())
            except Overloaded:
                await asyncio.sleep(delay_s)
        return await self._core.submitter.run(run, context.time_remaining())


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
            f"message {number} of the stream has {len(request.ids)} ids for {len(query.texts)} texts"
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


def _failed_rows(model: ModelDescription, texts: int) -> Rows:
    shape = (texts, model.embedding_tokens, model.hidden_size)
    return np.full(shape, np.nan, np.dtype(model.embedding_dtype))
