"""Streams of both clients: scores of many requests, and texts encoded in bulk."""

import asyncio
import time
from abc import abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import aclosing, closing
from operator import attrgetter
from typing import TypeVar

import grpc
import grpc.aio

from rankport.protos.arguments import checked_timeout_s
from rankport.protos.messages.streamed import ScoreCall, StreamedScore
from rankport.protos.priorities import Priority
from rankport.protos.types import EncodedText, Side, Truncation
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.sdk._remote import ChunkRequests, Text, in_loop, lost_its_reason, rankport_errors
from rankport.sdk.calls import Calls, CallsInLoops
from rankport.sdk.score_stream import AsyncScoreRequests, ScoreRequests
from rankport.sdk.transport.connections import AsyncConnection, Connection, responses_of
from rankport.sdk.transport.kept_messages import AsyncKeptMessages, KeptMessages
from rankport.sdk.transport.retries import REFUSALS
from rankport.sdk.transport.tracing import Metadata, trace_metadata

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")

_HEARD_S = 0.1  # in which a stream that is refused at once is told why, if nothing is sent on it meanwhile


class Streams(Calls):
    """Streams of the client that blocks. One that breaks goes on with the next server, from what has no answer."""

    _address: str

    def score_stream(
        self,
        calls: Iterable[ScoreCall],
        timeout_s: float | None = None,
        *,
        window: int = 32,
        priority: Priority | None = None,
    ) -> Iterator[StreamedScore]:
        """Scores many requests over one stream; yields each answer as soon as it is there, under its call's id.

        A call that fails is answered with its error, and the others go on. At most `window` calls wait for answers.
        `timeout_s` and errors of `calls` are as those of `encode_stream`. Calls that differ and wait together need ids
        of their own where a stream that breaks is to go on. It begins with the first answer that is asked for, in the
        priority and by the id of the code that made it.
        """
        requests = ScoreRequests(self._model, window)
        kept = KeptMessages(requests.drawn(calls), name=attrgetter("id"))
        return _scored(requests, self._streamed(lambda to: to.scoring.ScoreStream, kept, timeout_s, priority))

    def encode_stream(
        self,
        texts: Iterable[tuple[str, Text]],
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        chunk_texts: int = 64,
        side: Side | None = None,
        priority: Priority | None = None,
    ) -> Iterator[EncodedText]:
        """Encodes (id, text) pairs in bulk, in order; draws them no faster than the server works.

        A bad text has the status `failed` and the reason as its message; the stream goes on. `timeout_s` is for
        the whole stream, and the client's default does not apply. An error of `texts` itself is raised after
        the results of what came before it. A source that gives no `chunk_texts` texts within the server's
        `stream_idle_s`, ten minutes by default, ends in `DeadlineExceeded`: give smaller chunks. Raises
        `PairingError` where a stream that broke would go on with another encoder.
        """
        requests = ChunkRequests(self._model, truncation, chunk_texts, side)
        kept = KeptMessages(requests.drawn(texts))
        return _encoded(
            requests, self._streamed(lambda to: to.embedding.EncodeStream, kept, timeout_s, priority)
        )

    def _streamed(
        self,
        method: "Callable[[Connection], grpc.StreamStreamMultiCallable[RequestT, AnswerT]]",
        kept: KeptMessages[RequestT],
        timeout_s: float | None,
        priority: Priority | None,
    ) -> Generator[AnswerT, None, None]:
        return self._responses(method, kept, checked_timeout_s(timeout_s), trace_metadata(priority))

    def _responses(
        self,
        method: "Callable[[Connection], grpc.StreamStreamMultiCallable[RequestT, AnswerT]]",
        kept: KeptMessages[RequestT],
        timeout_s: float | None,
        traced: Metadata | None,
    ) -> Generator[AnswerT, None, None]:
        tries = self._retries.tries(timeout_s)
        while True:
            called = method(self._connected())
            try:
                with rankport_errors(self._address, timeout_s):
                    call = called(kept.sent(), timeout=tries.left_s(), metadata=traced)
                    with closing(responses_of(call, self._address)) as responses:
                        for response in responses:
                            kept.answer(response)
                            tries.went_on()
                            yield response
                return
            except REFUSALS as error:
                if kept.are_none:
                    return
                if not kept.may_be_sent:
                    raise
                time.sleep(tries.wait_s(error))

    @abstractmethod
    def _connected(self) -> Connection:
        """Gives the connection."""


class StreamsInLoops(CallsInLoops):
    """Streams of the asyncio client, which go on as those of `Streams`."""

    _address: str

    def score_stream(
        self,
        calls: AsyncIterable[ScoreCall] | Iterable[ScoreCall],
        timeout_s: float | None = None,
        *,
        window: int = 32,
        priority: Priority | None = None,
    ) -> AsyncIterator[StreamedScore]:
        """Scores as `Client.score_stream`."""
        requests = AsyncScoreRequests(self._model, window)
        kept = AsyncKeptMessages(requests.drawn_async(calls), name=attrgetter("id"))
        return _scored_async(
            requests, self._streamed(lambda to: to.scoring.ScoreStream, kept, timeout_s, priority)
        )

    def encode_stream(
        self,
        texts: AsyncIterable[tuple[str, Text]] | Iterable[tuple[str, Text]],
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        chunk_texts: int = 64,
        side: Side | None = None,
        priority: Priority | None = None,
    ) -> AsyncIterator[EncodedText]:
        """Encodes as `Client.encode_stream`."""
        requests = ChunkRequests(self._model, truncation, chunk_texts, side)
        kept = AsyncKeptMessages(requests.drawn_async(in_loop(texts)))
        return _encoded_async(
            requests, self._streamed(lambda to: to.embedding.EncodeStream, kept, timeout_s, priority)
        )

    def _streamed(
        self,
        method: "Callable[[AsyncConnection], grpc.aio.StreamStreamMultiCallable[RequestT, AnswerT]]",
        kept: AsyncKeptMessages[RequestT],
        timeout_s: float | None,
        priority: Priority | None,
    ) -> AsyncGenerator[AnswerT, None]:
        return self._responses(method, kept, checked_timeout_s(timeout_s), trace_metadata(priority))

    async def _responses(
        self,
        method: "Callable[[AsyncConnection], grpc.aio.StreamStreamMultiCallable[RequestT, AnswerT]]",
        kept: AsyncKeptMessages[RequestT],
        timeout_s: float | None,
        traced: Metadata | None,
    ) -> AsyncGenerator[AnswerT, None]:
        tries, waited_s = self._retries.tries(timeout_s), 0.0
        try:
            while True:
                called = method(self._connected())
                try:
                    with rankport_errors(self._address, timeout_s):
                        call = called(kept.sent(waited_s), timeout=tries.left_s(), metadata=traced)
                        try:
                            async for response in call:
                                kept.answer(response)
                                tries.went_on()
                                yield response
                        finally:
                            call.cancel()
                    return
                except REFUSALS as error:
                    if kept.are_none:
                        return
                    if not kept.may_be_sent:
                        raise
                    if not waited_s and lost_its_reason(error):
                        waited_s = _HEARD_S  # once more to hear it; not one of the retries
                        continue
                    await asyncio.sleep(tries.wait_s(error))
        finally:
            kept.close()

    @abstractmethod
    def _connected(self) -> AsyncConnection:
        """Gives the connection of the running loop."""


def _scored(
    requests: ScoreRequests, answers: Generator[pb.ScoreStreamResponse, None, None]
) -> Iterator[StreamedScore]:
    with closing(answers) as responses:
        try:
            yield from requests.read(responses)
        finally:
            requests.end()
    requests.raise_error()


def _encoded(
    requests: ChunkRequests, answers: Generator[pb.EncodeStreamResponse, None, None]
) -> Iterator[EncodedText]:
    with closing(answers) as responses:
        for response in responses:
            yield from requests.results(response)
    requests.raise_error()


async def _scored_async(
    requests: AsyncScoreRequests, answers: AsyncGenerator[pb.ScoreStreamResponse, None]
) -> AsyncIterator[StreamedScore]:
    async with aclosing(answers) as responses:
        async for answer in requests.read_async(responses):
            yield answer
    requests.raise_error()


async def _encoded_async(
    requests: ChunkRequests, answers: AsyncGenerator[pb.EncodeStreamResponse, None]
) -> AsyncIterator[EncodedText]:
    async with aclosing(answers) as responses:
        async for response in responses:
            for result in requests.results(response):
                yield result
    requests.raise_error()
