"""`KeptMessages`: what a stream sent before its first answer, kept so that another server may have it from the start.

Knows no call; `streaming` begins them anew.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Generic, TypeVar

MessageT = TypeVar("MessageT")


class KeptMessages(Generic[MessageT]):
    """Messages of a stream whose attempts each send them from the first one on, until one is answered.

    The reader of an attempt that has failed may still wait for the source, or draw from it: what it draws is kept for
    the next attempt, and nothing is lost or sent out of order.
    """

    def __init__(self, source: Iterator[MessageT]) -> None:
        self._source = source
        self._kept: list[MessageT] = []
        self._attempt = 0
        self._drawing = threading.Lock()
        self.answered = False  # set with the first answer: from then on no attempt follows

    def sent(self) -> Iterator[MessageT]:
        """Begins an attempt: its messages, drawn in a thread of gRPC's."""
        self._attempt += 1
        return self._sent(self._attempt)

    def _sent(self, attempt: int) -> Iterator[MessageT]:
        number = 0
        while attempt == self._attempt:
            if number < len(self._kept):
                yield self._kept[number]
                number += 1
                continue
            with self._drawing:
                if number < len(self._kept) or attempt != self._attempt:
                    continue  # the reader of an attempt before drew it, or this is one by now
                if self.answered:
                    self._kept.clear()
                    number = 0
                try:
                    self._kept.append(next(self._source))
                except StopIteration:
                    return


class AsyncKeptMessages(Generic[MessageT]):
    """Messages of a stream in an event loop, kept as `KeptMessages` does.

    One task draws them all, each as it is asked for: a source may hold what is of its task, as time limits are.
    """

    def __init__(self, source: AsyncIterator[MessageT]) -> None:
        self._source = source
        self._kept: list[MessageT] = []
        self._attempt = 0
        self._wanted, self._moved = asyncio.Event(), asyncio.Event()
        self._drawing: asyncio.Task[None] | None = None
        self.answered = False  # set with the first answer: from then on no attempt follows

    def sent(self, after_s: float = 0.0) -> AsyncIterator[MessageT]:
        """Begins an attempt: its messages, drawn in a task of gRPC's, the first after so many seconds."""
        self._attempt += 1
        return self._sent(self._attempt, after_s)

    def close(self) -> None:
        """Ends the drawing: nobody sends any more."""
        if self._drawing is not None:
            self._drawing.cancel()

    async def _sent(self, attempt: int, after_s: float) -> AsyncIterator[MessageT]:
        number = 0
        await asyncio.sleep(after_s)
        while attempt == self._attempt:
            if number < len(self._kept):
                yield self._kept[number]
                number += 1
                continue
            self._drawing = self._drawing or asyncio.create_task(self._draw())
            if self._drawing.done():
                self._drawing.result()  # a source that was cancelled is not one that ended
                return
            if self.answered and not self._wanted.is_set():
                self._kept.clear()
                number = 0
            self._moved.clear()
            self._wanted.set()
            await self._moved.wait()

    async def _draw(self) -> None:
        try:
            await self._wanted.wait()
            async for message in self._source:
                self._kept.append(message)
                self._wanted.clear()
                self._moved.set()
                await self._wanted.wait()
        finally:
            self._moved.set()
