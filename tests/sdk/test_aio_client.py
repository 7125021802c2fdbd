"""The asyncio client has the calls of the blocking one, with the same results and errors."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest

from rankport.protos import errors
from rankport.sdk import AsyncClient, Client, Key, ScoreCall
from support.servers.serving import Serving, serving


@pytest.fixture
def served() -> Iterator[Serving]:
    with serving() as running:
        yield running


def run(served: Serving, body: Callable[[AsyncClient], Awaitable[None]], *, retry: bool = True) -> None:
    """Runs `body` with a client in an event loop of its own."""

    async def main() -> None:
        async with AsyncClient(served.address, timeout_s=10, retry=retry) as client:
            await body(client)

    asyncio.run(main())


def test_both_clients_have_the_same_calls_and_arguments() -> None:
    def calls(cls: type) -> dict[str, list[str]]:
        functions = inspect.getmembers(cls, inspect.isfunction)
        return {
            name: list(inspect.signature(function).parameters)
            for name, function in functions
            if not name.startswith("_") or name == "__init__"
        }

    blocking = calls(Client)
    del blocking["submit"]  # awaiting is what a task is for
    assert calls(AsyncClient) == blocking


def test_its_results_are_those_of_the_blocking_client(served: Serving) -> None:
    async def body(client: AsyncClient) -> None:
        with Client(served.address) as blocking:
            remote = await client.score({"query": "q"}, ["a", [1, 2]])
            local = await asyncio.to_thread(blocking.score, {"query": "q"}, ["a", [1, 2]])
            assert np.array_equal(remote.logits, local.logits)
            assert np.array_equal(await client.encode(["a"]), served.encoder.encode(["a"]))
            assert await client.models() == await asyncio.to_thread(blocking.models)
            assert await client.describe("ranker") == served.ranker.describe()

    run(served, body)


def test_rank_is_that_of_the_blocking_client(served: Serving) -> None:
    items = ["a", Key("missing"), "c", "b"]
    with Client(served.address) as client:
        expected = client.rank("q", iter(items), top_k=3, return_items=True)

    async def body(client: AsyncClient) -> None:
        ranking = await client.rank("q", iter(items), top_k=3, return_items=True)
        assert ranking.items == expected.items == ("c", "b", "a")
        np.testing.assert_array_equal(ranking.logits, expected.logits)
        with pytest.raises(errors.InvalidRequest, match="top_k is 0"):
            await client.rank("q", items, top_k=0)

    run(served, body)


def test_calls_in_flight_together_are_all_answered(served: Serving) -> None:
    async def body(client: AsyncClient) -> None:
        results = await asyncio.gather(*(client.score("q", [chr(97 + index)]) for index in range(26)))
        scores = [float(result.scores[0]) for result in results]
        assert scores == [scores[0] + index for index in range(26)]

    run(served, body)


@pytest.mark.parametrize("cls", [errors.LimitExceeded, errors.Overloaded, errors.PairingError])
def test_an_error_of_the_server_is_raised_as_itself(served: Serving, cls: type[errors.RankportError]) -> None:
    served.ranker.fail_with = cls("why")

    async def body(client: AsyncClient) -> None:
        with pytest.raises(cls, match="why"):
            await client.score("q", ["a"])

    run(served, body, retry=False)


def test_a_cancelled_task_drops_its_work_at_the_server(served: Serving) -> None:
    worker = served.ranker.worker
    worker.gate.clear()

    async def body(client: AsyncClient) -> None:
        task = asyncio.create_task(client.score("q", ["a"]))
        await asyncio.to_thread(worker.arrived.acquire)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        later = asyncio.create_task(client.score("q", ["b"]))
        await asyncio.to_thread(worker.arrived.acquire)
        await asyncio.to_thread(worker.cancelled.acquire)
        worker.gate.set()
        await later

    run(served, body)
    assert (worker.computed, worker.dropped) == (1, 1)


def test_no_answer_in_time_is_a_deadline_exceeded(served: Serving) -> None:
    served.ranker.worker.gate.clear()

    async def body(client: AsyncClient) -> None:
        with pytest.raises(errors.DeadlineExceeded, match=r"within 0.1 s"):
            await client.score("q", ["a"], 0.1)

    run(served, body)


def test_a_timeout_that_is_no_time_is_refused(served: Serving) -> None:
    async def body(client: AsyncClient) -> None:
        with pytest.raises(errors.InvalidRequest, match="timeout_s is -1"):
            await client.score("q", ["a"], -1)
        with pytest.raises(errors.InvalidRequest, match="timeout_s is nan"):
            await client.encode(["a"], float("nan"))

    run(served, body)


def test_an_infinite_timeout_is_no_limit(served: Serving) -> None:
    async def body(client: AsyncClient) -> None:
        await client.score("q", ["a"], float("inf"))

    run(served, body)
    assert served.ranker.worker.timeouts == [None]


def test_items_and_texts_of_a_generator_are_sent(served: Serving) -> None:
    async def body(client: AsyncClient) -> None:
        assert len((await client.score("q", (text for text in "ab"))).scores) == 2
        assert len(await client.encode(text for text in "ab")) == 2

    run(served, body)


def test_an_address_that_is_none_is_refused_at_once(served: Serving) -> None:
    async def body(client: AsyncClient) -> None:
        for address in ("https://localhost:8500", "", None):
            with pytest.raises(errors.InvalidRequest, match=r"address is .*; give host:port"):
                AsyncClient(address)  # type: ignore[arg-type]

    run(served, body)


def test_a_closed_client_says_so(served: Serving) -> None:
    async def body(client: AsyncClient) -> None:
        await client.close()
        with pytest.raises(errors.Unavailable, match="is closed"):
            await client.score("q", ["a"])

    run(served, body)


def test_calls_in_progress_are_cancelled_as_it_closes(served: Serving) -> None:
    served.ranker.worker.gate.clear()
    served.encoder.worker.gate.clear()

    async def body(client: AsyncClient) -> None:
        async def first(answers: AsyncIterator[Any]) -> Any:
            return await anext(answers)

        calls = [
            client.score("q", ["a"]),
            first(client.score_stream([ScoreCall("1", "q", ["a"])])),
            first(client.encode_stream([("1", "a")])),
        ]
        tasks = [asyncio.ensure_future(call) for call in calls]
        for _ in range(2):
            assert await asyncio.to_thread(served.ranker.worker.arrived.acquire, timeout=10)
        assert await asyncio.to_thread(served.encoder.worker.arrived.acquire, timeout=10)
        await client.close()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(ended, errors.RequestCancelled)
            assert "its client was closed" in str(ended)

    run(served, body)


def test_a_task_that_is_cancelled_ends_as_cancelled(served: Serving) -> None:
    served.ranker.worker.gate.clear()

    async def body(client: AsyncClient) -> None:
        task = asyncio.ensure_future(client.score("q", ["a"]))
        assert await asyncio.to_thread(served.ranker.worker.arrived.acquire, timeout=10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.score("q", ["a"]), 0.05)

    run(served, body)


async def asynchronous(pairs: list[tuple[str, Any]]) -> AsyncIterator[tuple[str, Any]]:
    for pair in pairs:
        await asyncio.sleep(0)
        yield pair


@pytest.mark.parametrize("source", [list, asynchronous])
def test_a_stream_takes_both_kinds_of_iterables(served: Serving, source: Any) -> None:
    pairs = [(str(index), "bad" if index == 4 else f"text {index}") for index in range(11)]

    async def body(client: AsyncClient) -> None:
        results = [result async for result in client.encode_stream(source(pairs), chunk_texts=3)]
        assert [result.id for result in results] == [id for id, _ in pairs]
        assert [result.status.value for result in results].count("failed") == 1

    run(served, body)


def test_an_error_of_the_source_is_raised_after_the_results_before_it(served: Serving) -> None:
    async def pairs() -> AsyncIterator[tuple[str, str]]:
        yield "1", "a"
        raise OSError("disk")

    async def body(client: AsyncClient) -> None:
        results = client.encode_stream(pairs(), chunk_texts=1)
        assert (await anext(results)).id == "1"
        with pytest.raises(OSError, match="disk"):
            await anext(results)

    run(served, body)
