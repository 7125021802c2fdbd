"""Concurrent work, some at a time, with results in the order of its arrival or as soon as they are there."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

T = TypeVar("T")
Jobs = AsyncGenerator[Coroutine[Any, Any, T], None]


def in_order(jobs: "Jobs[T]", window: int) -> AsyncGenerator[T, None]:
    """Yields the results of `jobs`, each as soon as it and all before it are there.

    At most `window` jobs run or have results nobody took yet; no further one is drawn from `jobs` meanwhile.
    An error of `jobs` is raised behind the results of all that was drawn. The first job to fail ends the iteration with
    its error; the others are cancelled and `jobs` closed, as on `aclose`.
    """
    return _results(jobs, window, as_drawn=True)


def as_done(jobs: "Jobs[T]", window: int) -> AsyncGenerator[T, None]:
    """Yields the results of `jobs` in the order in which they come; else as `in_order`."""
    return _results(jobs, window, as_drawn=False)


async def _results(jobs: "Jobs[T]", window: int, *, as_drawn: bool) -> AsyncGenerator[T, None]:
    results: asyncio.Queue[asyncio.Task[T] | asyncio.Task[None]] = asyncio.Queue()
    running: set[asyncio.Task[T]] = set()
    free = asyncio.Semaphore(window)

    async def draw() -> None:
        async with aclosing(jobs):
            await free.acquire()
            async for job in jobs:
                task = asyncio.create_task(job)
                running.add(task)
                if as_drawn:
                    results.put_nowait(task)
                else:
                    task.add_done_callback(results.put_nowait)
                await free.acquire()

    drawing = asyncio.create_task(draw())
    drawing.add_done_callback(results.put_nowait)
    drawn = False
    try:
        while running or not drawn:
            task: asyncio.Task[Any] = await results.get()
            if task is drawing:
                drawn = True
                continue
            yield await task
            running.discard(task)
            free.release()
        await drawing
    finally:
        for task in (drawing, *running):
            task.cancel()
        await asyncio.gather(drawing, *running, return_exceptions=True)
