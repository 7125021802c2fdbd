"""Concurrent work with results as they come."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Any

import pytest

from rankport.runtime.server.concurrent_work import as_done, in_order


class _Jobs:
    """Jobs that end when they are told to."""

    def __init__(self, count: int, *, fails: bool = False) -> None:
        self.futures = [asyncio.get_running_loop().create_future() for _ in range(count)]
        self.drawn = 0
        self._fails = fails

    async def __aiter__(self) -> AsyncIterator[Coroutine[Any, Any, int]]:
        for future in self.futures:
            self.drawn += 1
            yield self._wait(future)
        if self._fails:
            raise ValueError("the source broke")

    async def _wait(self, future: "asyncio.Future[int]") -> int:
        return await future


async def _settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_results_come_as_they_are_done_and_no_more_is_drawn_than_the_window() -> None:
    async def run() -> None:
        jobs = _Jobs(4)
        results = as_done(aiter(jobs), 2)
        first = asyncio.ensure_future(anext(results))
        await _settled()
        assert jobs.drawn == 2
        jobs.futures[1].set_result(1)
        assert await first == 1
        await _settled()
        assert jobs.drawn == 2  # nobody has taken the next result yet
        second = asyncio.ensure_future(anext(results))
        await _settled()
        assert jobs.drawn == 3
        jobs.futures[2].set_result(2)
        assert await second == 2
        for place in (3, 0):
            jobs.futures[place].set_result(place)
        assert [result async for result in results] in ([3, 0], [0, 3])

    asyncio.run(run())


def test_an_error_of_the_source_comes_behind_the_results_of_what_was_drawn() -> None:
    async def run() -> list[int]:
        jobs, results = _Jobs(2, fails=True), []
        for place, future in enumerate(jobs.futures):
            asyncio.get_running_loop().call_soon(future.set_result, place)

        async def collect() -> None:
            async for result in as_done(aiter(jobs), 3):
                results.append(result)

        with pytest.raises(ValueError, match="the source broke"):
            await collect()
        return results

    assert asyncio.run(run()) == [0, 1]


def test_leaving_cancels_what_runs() -> None:
    async def run() -> list[bool]:
        jobs = _Jobs(2)
        results = as_done(aiter(jobs), 2)
        waiting = asyncio.ensure_future(anext(results))
        await _settled()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await results.aclose()
        return [future.cancelled() for future in jobs.futures]

    assert asyncio.run(run()) == [True, True]


@pytest.mark.parametrize("results_of", [as_done, in_order])
@pytest.mark.parametrize("ends", ["left", "cancelled", "failed"])
def test_the_source_is_closed_by_the_end_and_not_when_it_is_collected(results_of: Any, ends: str) -> None:
    async def work(number: int) -> int:
        if ends == "failed":
            raise ValueError("broken")
        if number:  # the window stays full
            await asyncio.Event().wait()
        return number

    async def source(closed: list[bool]) -> AsyncIterator[Coroutine[Any, Any, int]]:
        try:
            for number in range(5):
                yield work(number)
        finally:
            closed.append(True)

    async def read(closed: list[bool]) -> None:
        async with aclosing(results_of(source(closed), 2)) as results:
            async for _ in results:
                if ends == "left":
                    break

    async def run() -> list[bool]:
        closed: list[bool] = []
        reading = asyncio.create_task(read(closed))
        await _settled()
        reading.cancel()
        (error,) = await asyncio.gather(reading, return_exceptions=True)
        assert isinstance(
            error, {"left": type(None), "cancelled": asyncio.CancelledError}.get(ends, ValueError)
        )
        return list(closed)  # before the loop closes what is left

    assert asyncio.run(run()) == [True]
