"""Work that nobody waits for any more is cancelled at whatever stage it is."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import Future
from contextlib import aclosing
from typing import Any

import pytest

from rankport.protos.errors import DeadlineExceeded, RequestCancelled
from rankport.runtime.server.concurrent_work import in_order
from rankport.runtime.server.submitter import Submitter


def test_a_wait_cancelled_during_tokenization_cancels_the_work_it_leads_to() -> None:
    tokenizing, finish = threading.Event(), threading.Event()
    work: Future[int] = Future()

    def submit(timeout_s: float | None) -> Future[int]:
        tokenizing.set()
        finish.wait()
        return work

    async def run() -> None:
        submitter = Submitter(1)
        waiting = asyncio.create_task(submitter.run(submit, None))
        await asyncio.to_thread(tokenizing.wait)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        finish.set()
        await asyncio.to_thread(submitter.close, wait=True)

    asyncio.run(run())
    assert work.cancelled()


def test_a_wait_cancelled_in_the_queue_cancels_its_work() -> None:
    work: Future[int] = Future()

    async def run() -> None:
        submitter = Submitter(1)
        submitted = asyncio.Event()
        loop = asyncio.get_running_loop()

        def submit(timeout_s: float | None) -> Future[int]:
            loop.call_soon_threadsafe(submitted.set)
            return work

        waiting = asyncio.create_task(submitter.run(submit, None))
        await submitted.wait()
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.to_thread(submitter.close, wait=True)

    asyncio.run(run())
    assert work.cancelled()


def test_an_error_that_a_loop_takes_for_its_own_ends_its_request_and_no_other() -> None:
    futures: list[Future[int]] = [Future(), Future()]

    async def run() -> list[object]:
        submitter = Submitter(1)
        work = [submitter.run(lambda _, each=each: each, None, in_loop=True) for each in futures]  # type: ignore[misc]
        waiting = asyncio.gather(*work, return_exceptions=True)
        await asyncio.sleep(0)
        futures[0].set_exception(StopIteration())
        futures[1].set_result(7)
        return await asyncio.wait_for(waiting, 5.0)

    error, answer = asyncio.run(run())
    assert isinstance(error, RuntimeError)
    assert answer == 7


def test_a_request_past_its_deadline_is_never_tokenized() -> None:
    tokenized = []

    def submit(timeout_s: float | None) -> Future[int]:
        tokenized.append(timeout_s)
        raise AssertionError

    with pytest.raises(DeadlineExceeded, match="before the request could be tokenized"):
        asyncio.run(Submitter(1).run(submit, 0.0))
    assert tokenized == []


def test_a_future_that_the_model_cancels_is_an_error_and_no_silent_end() -> None:
    work: Future[int] = Future()
    work.cancel()
    with pytest.raises(RequestCancelled, match="dropped the request"):
        asyncio.run(Submitter(1).run(lambda _: work, None))


def test_results_of_one_pass_wake_the_loop_once_and_each_reaches_its_own_wait() -> None:
    works: list[Future[int]] = [Future() for _ in range(20)]
    wakes = []

    async def run() -> list[int]:
        submitter, loop = Submitter(1), asyncio.get_running_loop()
        real = loop.call_soon_threadsafe

        def counted(*arguments: Any, **options: Any) -> Any:
            wakes.append(arguments[0])
            return real(*arguments, **options)

        waiting = [
            asyncio.create_task(submitter.run(lambda _, work=work: work, None, in_loop=True))
            for work in works
        ]
        await asyncio.sleep(0)
        loop.call_soon_threadsafe = counted  # type: ignore[method-assign]

        def resolve_all() -> None:
            for number, work in enumerate(works):
                work.set_result(number)

        thread = threading.Thread(target=resolve_all)
        thread.start()
        thread.join()  # the loop runs none of it meanwhile
        return list(await asyncio.gather(*waiting))

    assert asyncio.run(run()) == list(range(20))
    assert len(wakes) == 1


def test_what_no_thread_begins_before_the_end_is_an_error_and_no_silent_wait() -> None:
    begun, finish = threading.Event(), threading.Event()

    def slow(timeout_s: float | None) -> Future[int]:
        begun.set()
        finish.wait()
        return Future()

    async def run() -> None:
        submitter = Submitter(1)
        first = asyncio.create_task(submitter.run(slow, None))
        await asyncio.to_thread(begun.wait)
        queued = asyncio.create_task(submitter.run(slow, None))
        await asyncio.sleep(0)
        submitter.close()
        with pytest.raises(RequestCancelled, match="dropped the request"):
            await queued
        finish.set()
        first.cancel()

    asyncio.run(run())


async def numbered(gates: list[asyncio.Event], drawn: list[int]) -> AsyncIterator[Coroutine[Any, Any, int]]:
    async def job(index: int) -> int:
        await gates[index].wait()
        return index

    for index in range(len(gates)):
        drawn.append(index)
        yield job(index)


def test_results_come_in_order_and_no_more_than_the_window_is_drawn() -> None:
    async def settle() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def run() -> None:
        gates, drawn = [asyncio.Event() for _ in range(6)], list[int]()
        async with aclosing(in_order(numbered(gates, drawn), 2)) as results:
            gates[1].set()
            first = asyncio.ensure_future(anext(results))
            await settle()
            assert not first.done()
            assert drawn == [0, 1]
            gates[0].set()
            assert [await first, await anext(results)] == [0, 1]
            third = asyncio.ensure_future(anext(results))
            await settle()
            assert drawn == [0, 1, 2, 3]
            for gate in gates:
                gate.set()
            assert [await third, *[result async for result in results]] == [2, 3, 4, 5]

    asyncio.run(run())


def test_the_first_failure_ends_the_results_and_cancels_the_rest() -> None:
    cancelled = []
    begun = asyncio.Event()

    async def fail() -> int:
        await begun.wait()
        raise ValueError("broken")

    async def wait() -> int:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return 0

    async def jobs() -> AsyncIterator[Coroutine[Any, Any, int]]:
        yield fail()
        yield wait()
        await asyncio.Event().wait()

    async def run() -> None:
        async with aclosing(in_order(jobs(), 3)) as results:
            with pytest.raises(ValueError, match="broken"):
                await anext(results)

    asyncio.run(run())
    assert cancelled == [True]


def test_an_error_of_the_source_comes_after_the_results_before_it() -> None:
    async def job() -> int:
        return 7

    async def jobs() -> AsyncIterator[Coroutine[Any, Any, int]]:
        yield job()
        raise ValueError("source")

    async def run() -> None:
        async with aclosing(in_order(jobs(), 2)) as results:
            assert await anext(results) == 7
            with pytest.raises(ValueError, match="source"):
                await anext(results)

    asyncio.run(run())
