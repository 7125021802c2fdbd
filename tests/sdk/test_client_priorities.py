"""Every call of both clients says the class that it is given, in the place of that of the code around it."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc
import pytest

from rankport.protos.errors import InvalidRequest, RankportError
from rankport.protos.messages.streamed import ScoreCall
from rankport.protos.priorities import PRIORITY_KEY, priority
from rankport.sdk import AsyncClient, Client

SET = {"x": [1.0]}
CALLS: dict[str, Callable[..., Any]] = {
    "score": lambda client, **more: client.score("q", ["a"], **more),
    "submit": lambda client, **more: client.submit("q", ["a"], **more).result(),
    "rank": lambda client, **more: client.rank("q", ["a"], **more),
    "score_stream": lambda client, **more: client.score_stream([ScoreCall("id", "q", ["a"])], **more),
    "classify": lambda client, **more: client.classify(["a"], **more),
    "tag": lambda client, **more: client.tag(["a"], **more),
    "encode": lambda client, **more: client.encode(["a"], **more),
    "encode_sparse": lambda client, **more: client.encode_sparse(["a"], **more),
    "lookup": lambda client, **more: client.lookup(["k"], **more),
    "encode_stream": lambda client, **more: client.encode_stream([("id", "a")], **more),
    "generate": lambda client, **more: client.generate("a", **more),
    "search": lambda client, **more: client.search("a", "trie", **more),
    "stream": lambda client, **more: client.stream("a", **more),
    "rank_set": lambda client, **more: client.rank_set(SET, SET, **more),
}


class Recorder(grpc.GenericRpcHandler):
    """Server that answers nothing, and keeps the class that each call said."""

    def __init__(self) -> None:
        self.said: list[str | None] = []

    def service(self, handler_call_details: Any) -> None:
        self.said.append(dict(handler_call_details.invocation_metadata).get(PRIORITY_KEY))


@pytest.fixture(scope="module")
def recorder() -> Iterator[tuple[Recorder, str]]:
    recorder, server = Recorder(), grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((recorder,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield recorder, f"127.0.0.1:{port}"
    server.stop(None)


def call(client: Client, name: str, **more: Any) -> None:
    with suppress(RankportError):
        answer = CALLS[name](client, timeout_s=20, **more)
        for _ in answer if name in ("score_stream", "encode_stream", "stream") else ():
            pass


async def call_in_loop(client: AsyncClient, name: str, **more: Any) -> None:
    with suppress(RankportError):
        answer = CALLS[name](client, timeout_s=20, **more)
        if isinstance(answer, AsyncIterator):
            async for _ in answer:
                pass
        else:
            await answer


def with_priority(client: type) -> list[str]:
    """Lists the calls of a client that take a class."""
    functions = inspect.getmembers(client, inspect.isfunction)
    return sorted(
        name
        for name, function in functions
        if name[0] != "_" and "priority" in inspect.signature(function).parameters
    )


def test_the_calls_below_are_all_that_take_a_class() -> None:
    assert with_priority(Client) == sorted(CALLS)
    assert with_priority(AsyncClient) == sorted(set(CALLS) - {"submit"})


@pytest.mark.parametrize("name", CALLS)
def test_a_call_says_its_own_class(recorder: tuple[Recorder, str], name: str) -> None:
    server, address = recorder
    server.said.clear()
    with Client(address) as client, priority("interactive"):
        call(client, name, priority="background")
        call(client, name)
    assert server.said == ["background", "interactive"]


def test_so_does_each_of_the_client_for_asyncio(recorder: tuple[Recorder, str]) -> None:
    server, address = recorder
    names = with_priority(AsyncClient)
    said: list[set[str | None]] = []

    async def ask(client: AsyncClient, name: str, **more: Any) -> None:
        server.said.clear()
        await call_in_loop(client, name, **more)
        said.append(set(server.said))  # a stream that is refused while it sends may be begun anew

    async def ask_all() -> None:
        async with AsyncClient(address) as client:
            with priority("interactive"):
                for name in names:
                    await ask(client, name, priority="background")
                    await ask(client, name)

    asyncio.run(ask_all())
    assert said == [{"background"}, {"interactive"}] * len(names)


STREAMS = ("score_stream", "encode_stream", "stream")


def test_a_stream_has_the_class_of_the_code_that_made_it(recorder: tuple[Recorder, str]) -> None:
    """It begins where it is read, which may be behind the block that says the class: it was interactive then."""
    server, address = recorder
    server.said.clear()

    async def read_all() -> None:
        async with AsyncClient(address) as client:
            with priority("background"):
                made = [CALLS[name](client, timeout_s=20) for name in STREAMS]
            for stream in made:
                with suppress(RankportError):
                    async for _ in stream:
                        pass

    asyncio.run(read_all())
    with Client(address) as client:
        with priority("background"):
            streams = [CALLS[name](client, timeout_s=20) for name in STREAMS]
            streams.append(client.jobs.watch("nightly", timeout_s=20))
        for stream in streams:
            with suppress(RankportError):
                for _ in stream:
                    pass
    assert len(server.said) >= 7
    assert set(server.said) == {"background"}


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_a_stream_that_cannot_be_is_refused_where_it_is_made(client: type[Any]) -> None:
    for name in STREAMS:
        with pytest.raises(InvalidRequest, match="timeout_s is -1"):
            CALLS[name](client("localhost:1"), timeout_s=-1)
        with pytest.raises(InvalidRequest, match="priority is 'urgent'"):
            CALLS[name](client("localhost:1"), priority="urgent")


def test_a_class_that_there_is_not_is_refused_before_it_is_sent(recorder: tuple[Recorder, str]) -> None:
    server, address = recorder
    server.said.clear()
    with Client(address) as client, pytest.raises(InvalidRequest, match="priority is 'urgent'"):
        client.score("q", ["a"], priority="urgent")  # type: ignore[arg-type]
    assert server.said == []
