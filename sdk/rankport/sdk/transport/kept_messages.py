"""`KeptMessages`: what a stream sent and has no answer yet, kept so that another server may have it.

Knows no call; `streaming` begins them anew.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from typing import Any, Generic, TypeVar

MessageT = TypeVar("MessageT")


class _Unanswered(Generic[MessageT]):
    """Messages in the order in which they were drawn, each until its answer is there. Any thread may ask."""

    def __init__(self, name: Callable[[Any], str] | None) -> None:
        self._name = name
        self._messages: dict[int, MessageT] = {}
        self._lock = threading.Lock()
        self._attempt = 0
        self._drawn = 0
        self._ended = False  # the source: all there are were drawn
        self._told_apart = True

    @property
    def are_none(self) -> bool:
        """Says whether every message of the source has its answer."""
        return self._ended and not self._messages

    @property
    def may_be_sent(self) -> bool:
        """Says whether it is known which messages are left."""
        return self._told_apart

    def answer(self, answer: object) -> None:
        """Takes the answer of a message, which is not sent again."""
        with self._lock:
            if self._name is None:
                numbers = [*islice(self._messages, 1)]
            else:
                name = self._name(answer)
                numbers = [number for number, each in self._messages.items() if self._name(each) == name]
            # Compared until they differ once: of equal ones any is the answered.
            self._told_apart = self._told_apart and self._are_equal(numbers)
            for number in numbers[:1]:
                del self._messages[number]

    def _are_equal(self, numbers: list[int]) -> bool:
        first = self._messages[numbers[0]] if numbers else None
        return first is not None and all(self._messages[number] == first for number in numbers[1:])

    def _oldest(self) -> int:
        with self._lock:
            return next(iter(self._messages), self._drawn)

    def _keep(self, message: MessageT) -> None:
        with self._lock:
            self._messages[self._drawn] = message
            self._drawn += 1


class KeptMessages(_Unanswered[MessageT]):
    """Messages of a stream whose attempts each send those that no attempt before had answered.

    The reader of an attempt that has failed may still wait for the source, or draw from it: what it draws is kept for
    the next attempt, and nothing is lost or sent out of order.
    """

    def __init__(self, source: Iterator[MessageT], name: Callable[[Any], str] | None = None) -> None:
        """Takes what gives the name that a message shares with its answer; None if answers come in their order."""
        super().__init__(name)
        self._source = source
        self._drawing = threading.Lock()

    def sent(self) -> Iterator[MessageT]:
        """Begins an attempt: its messages, drawn in a thread of gRPC's."""
        self._attempt += 1
        return self._sent(self._attempt)

    def _sent(self, attempt: int) -> Iterator[MessageT]:
        number = self._oldest()
        while attempt == self._attempt:
            if number < self._drawn:
                if (message := self._messages.get(number)) is not None:
                    yield message
                number += 1
                continue
            with self._drawing:
                if number < self._drawn or attempt != self._attempt:
                    continue  # the reader of an attempt before drew it, or this is one by now
                try:
                    self._keep(next(self._source))
                except StopIteration:
                    self._ended = True
                    return


class AsyncKeptMessages(_Unanswered[MessageT]):
    """Messages of a stream in an event loop, kept as `KeptMessages` does.

    One task draws them all, each as it is asked for: a source may hold what is of its task, as time limits are.
    """

    def __init__(self, source: AsyncIterator[MessageT], name: Callable[[Any], str] | None = None) -> None:
        """Takes names as `KeptMessages` does."""
        super().__init__(name)
        self._source = source
        self._wanted, self._moved = asyncio.Event(), asyncio.Event()
        self._drawing: asyncio.Task[None] | None = None

    def sent(self, after_s: float = 0.0) -> AsyncIterator[MessageT]:
        """Begins an attempt: its messages, drawn in a task of gRPC's, the first after so many seconds."""
        self._attempt += 1
        return self._sent(self._attempt, after_s)

    def close(self) -> None:
        """Ends the drawing: nobody sends any more."""
        if self._drawing is not None:
            self._drawing.cancel()

    async def _sent(self, attempt: int, after_s: float) -> AsyncIterator[MessageT]:
        await asyncio.sleep(after_s)
        number = self._oldest()
        while attempt == self._attempt:
            if number < self._drawn:
                if (message := self._messages.get(number)) is not None:
                    yield message
                number += 1
                continue
            self._drawing = self._drawing or asyncio.create_task(self._draw())
            if self._drawing.done():
                self._drawing.result()  # a source that was cancelled is not one that ended
                return
            self._moved.clear()
            self._wanted.set()
            await self._moved.wait()

    async def _draw(self) -> None:
        try:
            await self._wanted.wait()
            async for message in self._source:
                self._keep(message)
                self._wanted.clear()
                self._moved.set()
                await self._wanted.wait()
            self._ended = True
        finally:
            self._moved.set()
