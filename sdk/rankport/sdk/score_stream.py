"""`ScoreRequests`: the messages of one stream of scores, drawn from calls as fast as answers come."""

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from uuid import uuid4

from rankport.protos.arguments import checked_count
from rankport.protos.errors import InvalidRequest
from rankport.protos.messages.streamed import ScoreCall, StreamedScore, answer_value, call_message
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.sdk._remote import in_loop


class ScoreRequests:
    """Messages of one stream, at most `window` of them without their answer.

    A call that does not fit the wire has failed alone. In its place goes an empty message, whose answer stands for it:
    who reads may wait for nothing else, and the source for who reads. An error of the source ends the stream in good
    order and waits in `raise_error`: raised inside gRPC's own reader it would only be logged.
    """

    def __init__(self, model: str, window: int) -> None:
        self._model, self._window = model, checked_count(window, "window")
        self._answered = threading.Semaphore(self._window)
        self._ended = False
        self._unsent: dict[str, StreamedScore] = {}  # calls that failed here, by the id of what went for each
        self._error: Exception | None = None

    def drawn(self, calls: Iterable[ScoreCall]) -> Iterator[pb.ScoreStreamRequest]:
        """Yields a message a call, while there is room in the window. Drawn in a thread of gRPC's."""
        try:
            for call in calls:
                message = self._message(call)
                self._answered.acquire()
                if self._ended:
                    return
                yield message
        except Exception as error:
            self._error = error

    def read(self, responses: Iterable[pb.ScoreStreamResponse]) -> Iterator[StreamedScore]:
        """Yields the answer of each call, those that never left among them."""
        for response in responses:
            self._answered.release()
            yield self._answer(response)

    def end(self) -> None:
        """Ends the drawing: nobody reads any more."""
        self._ended = True
        self._answered.release()

    def raise_error(self) -> None:
        """Raises what ended the source early, if anything did."""
        if self._error is not None:
            raise self._error

    def _message(self, call: ScoreCall) -> pb.ScoreStreamRequest:
        if not isinstance(call, ScoreCall):
            raise InvalidRequest(f"calls has {call!r:.60}; give each as a ScoreCall")
        try:
            return call_message(self._model, call)
        except InvalidRequest as error:
            id = f"unsent {uuid4()}"
            self._unsent[id] = StreamedScore(str(call.id), None, error)
            return pb.ScoreStreamRequest(id=id)

    def _answer(self, response: pb.ScoreStreamResponse) -> StreamedScore:
        return self._unsent.pop(response.id, None) or answer_value(response)


class AsyncScoreRequests(ScoreRequests):
    """Stream of scores for an event loop."""

    def __init__(self, model: str, window: int) -> None:
        super().__init__(model, window)
        self._room = asyncio.Semaphore(self._window)

    async def drawn_async(
        self, calls: AsyncIterable[ScoreCall] | Iterable[ScoreCall]
    ) -> AsyncIterator[pb.ScoreStreamRequest]:
        """Yields a message a call, while there is room in the window."""
        try:
            async for call in in_loop(calls):
                message = self._message(call)
                await self._room.acquire()
                yield message
        except Exception as error:
            self._error = error

    async def read_async(
        self, responses: AsyncIterable[pb.ScoreStreamResponse]
    ) -> AsyncIterator[StreamedScore]:
        """Yields the answer of each call, those that never left among them."""
        async for response in responses:
            self._room.release()
            yield self._answer(response)
