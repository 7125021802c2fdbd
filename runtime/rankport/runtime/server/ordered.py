"""Concurrent work with results in the order of its arrival."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

T = TypeVar("T")


async def in_order(
    jobs: AsyncGenerator[Coroutine[Any, Any, T], None], window: int
) -> AsyncGenerator[T, None]:
    """Yields the results of `jobs`, each as soon as it and all before it are there.

    At most `window` jobs run or have results nobody took yet; no further one is drawn from `jobs` meanwhile.
    The first job to fail ends the iteration with its error; the others are cancelled and `jobs` closed, as on `aclose`.
    """
    tasks: asyncio.Queue[asyncio.Task[T] | None] = asyncio.Queue()
    free = asyncio.Semaphore(window)

    async def draw() -> None:
        try:
            async with aclosing(jobs):
                await free.acquire()
                async for job in jobs:
                    tasks.put_nowait(asyncio.create_task(job))
                    await free.acquire()
        finally:
            tasks.put_nowait(None)

    drawing = asyncio.create_task(draw())
    task: asyncio.Task[T] | None = None
    try:
        while (task := await tasks.get()) is not None:
            yield await task
            free.release()
        await drawing
    finally:
        waiting = [queued for queued in (tasks.get_nowait() for _ in range(tasks.qsize())) if queued]
        for left in (drawing, *waiting):
            left.cancel()
        await asyncio.gather(drawing, *waiting, return_exceptions=True)
