"""Service `Scoring`."""

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from concurrent.futures import Future
from contextlib import aclosing
from typing import Any

from rankport.protos.arguments import checked_timeout_s
from rankport.protos.messages import wire
from rankport.protos.messages.streamed import error_message
from rankport.protos.types import ScoreResult
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.server.concurrent_work import as_done
from rankport.runtime.server.core import Core
from rankport.runtime.server.failures import told
from rankport.runtime.server.grpc.calls import (
    Context,
    answering,
    checked_size,
    fitting,
    open_call,
    request_id,
)
from rankport.runtime.server.grpc.streams import OpenStreams, StreamMessages

_QUICK_FORMS = ("embeddings", "token_ids")
_QUICK_BYTES, _QUICK_PREFIX_BYTES = 2**20, 2**10


def is_quick(request: pb.ScoreRequest, nbytes: int) -> bool:
    """Says whether a request of so many bytes is read in less time than a thread takes to begin: no text, no store."""
    return (
        request.items.WhichOneof("form") in _QUICK_FORMS
        and nbytes <= _QUICK_BYTES
        and request.prefix.ByteSize() <= _QUICK_PREFIX_BYTES
    )


class ScoringService(pb_grpc.ScoringServicer):
    """Answers Score and ScoreStream with the models of a server that score."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._open_streams = OpenStreams(core.config.max_connection_streams)

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:  # noqa: N802
        async with answering(context, self._core, request) as nbytes:
            response = await self._score(request, nbytes, request_id(context), context.time_remaining())
            return fitting(response, self._core)

    # A coroutine that writes sees the call's cancellation; a generator, suspended at its yield, would not.
    async def ScoreStream(  # type: ignore[override]  # noqa: N802
        self, requests: AsyncIterator[pb.ScoreStreamRequest], context: Context
    ) -> None:
        config = self._core.config
        call = open_call(context, self._core)
        async with call:
            self._core.admission.check_running()
            with self._open_streams.one_of(context.peer()):
                messages = StreamMessages(requests, self._core, "scores")
                answers = self._answers(messages, context)
                async with aclosing(as_done(answers, config.score_stream_window)) as responses:
                    async for response in responses:
                        await call.write(response)

    async def _answers(
        self, messages: StreamMessages[pb.ScoreStreamRequest], context: Context
    ) -> AsyncGenerator[Coroutine[Any, Any, pb.ScoreStreamResponse], None]:
        """Yields the work of each message."""
        async with aclosing(aiter(messages)) as each:
            async for message in each:
                yield self._answer(message, messages, context)

    async def _answer(
        self,
        message: pb.ScoreStreamRequest,
        messages: StreamMessages[pb.ScoreStreamRequest],
        context: Context,
    ) -> pb.ScoreStreamResponse:
        """Answers a message; what fails it fails it alone."""
        with messages.working():
            try:
                left_s = _sooner(context.time_remaining(), message.timeout_s)
                nbytes, items = checked_size(self._core, message)
                with self._core.admission.admitted(nbytes, streamed=True):
                    self._core.admission.charge(items)
                    key = message.id or request_id(context)
                    response = await self._score(message.request, nbytes, key, left_s)
                return fitting(pb.ScoreStreamResponse(id=message.id, response=response), self._core)
            except Exception as error:
                failure = told(error)
                self._core.admission.refused(failure)
                return error_message(message.id, failure, self._core.admission.retry_hint_s(failure))

    async def _score(
        self, request: pb.ScoreRequest, nbytes: int, request_id: str, timeout_s: float | None
    ) -> pb.ScoreResponse:
        served = self._core.models.scorer(request.model, request_id)

        def submit(left_s: float | None) -> Future[ScoreResult]:
            return self._core.scoring.submit(served, wire.score_query(request), left_s)

        with served:
            result = await self._core.submitter.run(submit, timeout_s, in_loop=is_quick(request, nbytes))
        return wire.score_response(result)


def _sooner(stream_s: float | None, own_s: float) -> float | None:
    """Takes the time limit of a message that ends sooner: that of its stream, or its own, if it has one."""
    limits = [limit for limit in (stream_s, checked_timeout_s(own_s) or None) if limit is not None]
    return min(limits, default=None)
