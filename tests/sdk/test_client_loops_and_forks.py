"""A client in another loop, thread or process than the one that made it."""

import asyncio
import gc
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from rankport.protos.errors import Unavailable
from rankport.protos.messages.streamed import ScoreCall
from rankport.sdk import AsyncClient, Client
from support.servers.forking import in_forked_child
from support.servers.serving import GRPCIO, Serving, serving

SCORE_OF_A = 97.0 + ord("q")


@pytest.fixture
def served() -> Iterator[Serving]:
    with serving() as running:
        yield running


async def score(client: AsyncClient) -> float:
    return float((await client.score("q", ["a"])).scores[0])


def test_a_client_made_outside_of_a_loop_answers_in_one(served: Serving) -> None:
    client = AsyncClient(served.address, timeout_s=10)
    assert asyncio.run(score(client)) == SCORE_OF_A


def test_a_client_answers_in_one_loop_after_another(served: Serving) -> None:
    client = AsyncClient(served.address, timeout_s=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [asyncio.run(score(client)) for _ in range(3)] == [SCORE_OF_A] * 3
        gc.collect()  # of the channels whose loops have ended


def test_a_client_answers_in_loops_of_several_threads_at_once(served: Serving) -> None:
    client = AsyncClient(served.address, timeout_s=10)

    async def scores() -> list[float]:
        return [await score(client) for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: asyncio.run(scores()), range(4))) == [[SCORE_OF_A] * 5] * 4


def test_closed_in_one_loop_it_is_closed_in_all(served: Serving) -> None:
    client = AsyncClient(served.address, timeout_s=10)
    asyncio.run(score(client))
    asyncio.run(client.close())
    with pytest.raises(Unavailable, match="is closed; make a new one"):
        asyncio.run(score(client))


def test_closing_before_the_first_call_closes_it() -> None:
    client = Client("127.0.0.1:1")
    client.close()
    with pytest.raises(Unavailable, match="is closed; make a new one"):
        client.score("q", ["a"])


def test_a_client_that_is_closed_while_it_connects_leaves_no_connection(
    served: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, made, connect = Client(served.address, timeout_s=10), [], grpc.insecure_channel

    def closed_meanwhile(*arguments: Any) -> grpc.Channel:
        client.close()
        made.append(connect(*arguments))
        return made[0]

    monkeypatch.setattr(grpc, "insecure_channel", closed_meanwhile)
    with pytest.raises(Unavailable, match="is closed; make a new one"):
        client.score("q", ["a"])
    with pytest.raises(ValueError, match="closed channel"):
        made[0].unary_unary("/of/none")(b"")


def test_a_client_that_another_loop_closes_while_it_connects_connects_no_more(
    served: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, running = AsyncClient(served.address, timeout_s=10), asyncio.get_running_loop
    closing = threading.Thread(target=lambda: asyncio.run(client.close()))

    def closed_meanwhile() -> asyncio.AbstractEventLoop:
        if closing.ident is None:
            closing.start()
            closing.join()
        return running()

    async def first_call() -> float:
        monkeypatch.setattr(asyncio, "get_running_loop", closed_meanwhile)
        return await score(client)

    with pytest.raises(Unavailable, match="is closed; make a new one"):
        asyncio.run(first_call())


def test_a_client_that_connected_before_a_fork_says_so(served: Serving) -> None:
    told = (
        f"Unavailable: the client of {served.address} connected before a fork(), which copies no threads: make a "
        "client in the child process, or start processes by 'spawn'"
    )
    with Client(served.address, timeout_s=10) as client:
        client.score("q", ["a"])
        assert in_forked_child(lambda: client.score("q", ["a"])) == told
        assert in_forked_child(lambda: client.submit("q", ["a"])) == told
        assert in_forked_child(lambda: list(client.encode_stream([("1", "a")]))) == told
        assert in_forked_child(client.close) == "None"
        assert float(client.score("q", ["a"]).scores[0]) == SCORE_OF_A

    async def in_child() -> str:
        async with AsyncClient(served.address, timeout_s=10) as client:
            await score(client)
            return in_forked_child(lambda: _without_loop(client))

    assert asyncio.run(in_child()) == told


def test_what_a_client_began_before_a_fork_says_so(served: Serving) -> None:
    def told(what: str, remedy: str) -> str:
        return (
            f"Unavailable: {what} before a fork(), which copies no threads: {remedy} in the child process, or start "
            "processes by 'spawn'"
        )

    stream = told(f"a stream of {served.address} was begun", "begin it")
    with Client(served.address, "ranker", timeout_s=10) as client:
        served.ranker.worker.gate.clear()
        pending = client.submit("q", ["a"])
        assert in_forked_child(pending.result) == told("the request was submitted", "submit it")
        assert in_forked_child(pending.cancel) == "False"
        served.ranker.worker.gate.set()
        assert float(pending.result(10).scores[0]) == SCORE_OF_A

        scores = client.score_stream((ScoreCall(id, "q", ["a"]) for id in "123"), timeout_s=10, window=1)
        next(scores)
        assert in_forked_child(lambda: next(scores)) == stream
        assert [answer.id for answer in scores] == ["2", "3"]
    with Client(served.address, "encoder", timeout_s=10) as client:
        texts = client.encode_stream([("1", "a"), ("2", "b")], timeout_s=10, chunk_texts=1)
        next(texts)
        assert in_forked_child(lambda: next(texts)) == stream
        assert [text.id for text in texts] == ["2"]


def _without_loop(client: AsyncClient) -> float:
    with ThreadPoolExecutor(1) as thread:  # the child's own is in the parent's loop
        return thread.submit(asyncio.run, score(client)).result()


@pytest.mark.skipif(GRPCIO < (1, 80), reason="an older grpcio does not connect in a child")
def test_a_client_that_did_not_connect_yet_answers_in_the_child(served: Serving) -> None:
    client = Client(served.address, timeout_s=10)
    assert in_forked_child(lambda: float(client.score("q", ["a"]).scores[0])) == repr(SCORE_OF_A)
