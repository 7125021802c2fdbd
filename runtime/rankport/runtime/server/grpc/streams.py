"""Messages of streams, as long as their client goes on and the server does; and how many a connection has open."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Generic, Literal, TypeVar

from rankport.protos.errors import DeadlineExceeded, Overloaded, Unavailable
from rankport.runtime.kinds.capabilities import Capability
from rankport.runtime.server.core import Core

T = TypeVar("T")
_UNREAD_S, _LOOK_S = 1.0, 0.02


class StreamMessages(Generic[T]):
    """Messages of one stream. Between them it is no work, and not for ever."""

    def __init__(self, requests: AsyncIterator[T], core: Core, does: Capability) -> None:
        """Takes what models do with the messages."""
        self._requests = requests
        self._admission, self._idle_s = core.admission, core.config.stream_idle_s
        self._check_room = partial(core.check_unread, does)
        self._working = 0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Wraps the work of a message: a client that waits for its answer is not idle."""
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1

    async def __aiter__(self) -> AsyncGenerator[T, None]:
        """Yields each message. Whoever takes them closes it.

        Raises:
            DeadlineExceeded: the client sent nothing for too long, and nothing of it is worked on.
            Unavailable: the server is stopping; what was read before is still answered.
        """
        stopping = asyncio.ensure_future(self._admission.stopping.wait())
        try:
            while (message := await self._next(stopping)) is not None:
                yield message
        finally:
            stopping.cancel()

    async def _next(self, stopping: "asyncio.Future[Literal[True]]") -> T | None:
        await self._room()
        self._admission.check_running()
        reading = asyncio.ensure_future(anext(self._requests, None))
        try:
            while not reading.done():
                await asyncio.wait(
                    (reading, stopping), timeout=self._idle_s, return_when=asyncio.FIRST_COMPLETED
                )
                if reading.done():
                    break
                self._admission.check_running()
                if not self._working:
                    raise DeadlineExceeded(
                        f"the client sent nothing for {self._idle_s:g} s (stream_idle_s): open a stream when there is "
                        "work for it"
                    )
            return reading.result()
        finally:
            reading.cancel()

    async def _room(self) -> None:
        """Leaves the next message unread, and so its client waiting to send more, where it could only be refused.

        Not for long: what waits here is not seen by who has to answer it in time.
        """
        loop = asyncio.get_running_loop()
        end_s = loop.time() + _UNREAD_S
        while loop.time() < end_s and self._is_full():
            await asyncio.sleep(_LOOK_S)

    def _is_full(self) -> bool:
        try:
            self._check_room()
        except Overloaded:
            return True
        except Unavailable:  # which who reads on is told
            pass
        return False


class OpenStreams:
    """Streams that are open, by connection."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    @contextmanager
    def one_of(self, peer: str) -> Iterator[None]:
        """Wraps a stream of a connection. Raises `Overloaded` if it has as many as it may."""
        if not peer.startswith("unix"):  # whose connections have all one name
            self._check(peer)
        self._open[peer] += 1
        try:
            yield
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]

    def _check(self, peer: str) -> None:
        if self._open[peer] >= self._most:
            raise Overloaded(
                f"the connection has {self._open[peer]} streams of this kind open, the limit is {self._most} "
                "(max_connection_streams): send more on each"
            )
