"""Concurrent work with results as soon as they are there."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

T = TypeVar("T")


async def as_done(jobs: AsyncGenerator[Coroutine[Any, Any, T], None], window: int) -> AsyncGenerator[T, None]:
    """Yields the results of `jobs` in the order in which they come.

    At most `window` jobs run or have results nobody took yet; no further one is drawn from `jobs` meanwhile.
    An error of `jobs` is raised behind the results of all that was drawn. The first job to fail ends the iteration with
    its error; the others are cancelled and `jobs` closed, as on `aclose`.
    """
    results: asyncio.Queue[asyncio.Task[T] | asyncio.Task[None]] = asyncio.Queue()
    running: set[asyncio.Task[T]] = set()
    free = asyncio.Semaphore(window)

    async def draw() -> None:
        async with aclosing(jobs):
            await free.acquire()
            async for job in jobs:
                task = asyncio.create_task(job)
                running.add(task)
                task.add_done_callback(results.put_nowait)
                await free.acquire()

    drawing = asyncio.create_task(draw())
    drawing.add_done_callback(results.put_nowait)
    drawn = False
    try:
        while running or not drawn:
            done: asyncio.Task[Any] = await results.get()
            if done is drawing:
                drawn = True
                continue
            running.discard(done)
            yield await done
            free.release()
        await drawing
    finally:
        for task in (drawing, *running):
            task.cancel()
        await asyncio.gather(drawing, *running, return_exceptions=True)
