"""Arguments of the clients that are none: each is told by name, before a call is made of it."""

import asyncio
import copy
import json
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest

from rankport.protos.errors import InvalidRequest
from rankport.sdk import AsyncClient, Client, ScoreCall, Tls, request_id

ADDRESS = "127.0.0.1:1"  # where nobody answers
CALLS = [ScoreCall("1", "query", ["a"])]
CLIENTS: list[Callable[..., Any]] = [Client, AsyncClient]


@pytest.mark.parametrize("make", CLIENTS)
@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ({"model": 5}, "model is an int; give text"),
        ({"timeout_s": "1"}, "timeout_s is '1'"),
        ({"tls": "yes"}, r"tls is 'yes'; give True, False or Tls\(ca=FILE\)"),
        ({"tls": 1}, "tls is 1; give True"),
        ({"retry": "false"}, "retry is 'false': give True or False"),
        ({"token": 5}, "token is of type int; give text, or a function that returns it"),
        ({"token": b"t"}, "token is of type bytes"),
        ({"token": "a\nb"}, "token has characters that a header does not take"),
        ({"tls": True, "credentials": object()}, "tls and credentials are given"),
        ({"options": "abc"}, "options are 'abc'; give pairs of a name and a value"),
        ({"options": [("a",)]}, r"options are \[\('a',\)\]; give pairs"),
        ({"options": [(1, 2)]}, r"options are \[\(1, 2\)\]; give pairs"),
    ],
)
def test_a_client_is_not_made_of_it(make: Callable[..., Any], argument: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        make(ADDRESS, **argument)


def test_what_a_function_gives_for_a_token_is_checked_at_each_call() -> None:
    tokens = iter([None, "a b"])
    with Client(ADDRESS, token=lambda: next(tokens)) as client:  # type: ignore[arg-type,return-value]
        with pytest.raises(InvalidRequest, match="token is of type NoneType"):
            client.models()
        with pytest.raises(InvalidRequest, match="token has characters"):
            client.models()
    with (
        Client(ADDRESS, token=lambda: json.loads("")) as client,
        pytest.raises(InvalidRequest, match="the function of token raised JSONDecodeError: Expecting value"),
    ):
        client.models()


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "3", None])
def test_sizes_of_streams_are_whole_numbers(count: Any) -> None:
    async def ask(client: AsyncClient) -> None:
        with pytest.raises(InvalidRequest, match=f"window is {count!r}: it must be a whole number"):
            await anext(client.score_stream(CALLS, window=count))
        with pytest.raises(InvalidRequest, match=f"chunk_texts is {count!r}: it must be a whole number"):
            await anext(client.encode_stream([("1", "a")], chunk_texts=count))

    asyncio.run(ask(AsyncClient(ADDRESS)))
    with Client(ADDRESS) as client:
        with pytest.raises(InvalidRequest, match=f"window is {count!r}: it must be a whole number"):
            next(client.score_stream(CALLS, window=count))
        with pytest.raises(InvalidRequest, match=f"chunk_texts is {count!r}: it must be a whole number"):
            next(client.encode_stream([("1", "a")], chunk_texts=count))


def test_a_timeout_in_the_place_of_a_flag_is_told() -> None:
    async def ask(client: AsyncClient) -> None:
        with pytest.raises(InvalidRequest, match=r"return_items is 0\.5: give True or False"):
            await client.rank("q", ["a"], 10, 0.5)  # type: ignore[arg-type]

    asyncio.run(ask(AsyncClient(ADDRESS)))
    with (
        Client(ADDRESS) as client,
        pytest.raises(InvalidRequest, match=r"return_items is 0\.5: give True or False"),
    ):
        client.rank("q", ["a"], 10, 0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("id", [5, None, "", "a b", b"a"])
def test_an_id_of_a_request_is_text(id: Any) -> None:
    with pytest.raises(InvalidRequest, match="give 1 to 128 printable characters"), request_id(id):
        pass


@pytest.mark.parametrize("make", CLIENTS)
@pytest.mark.parametrize("send", [ForkingPickler.dumps, copy.copy, copy.deepcopy])
def test_a_client_is_not_sent_to_other_processes(
    make: Callable[..., Any], send: Callable[[Any], Any]
) -> None:
    client = make(ADDRESS, "jobs", token="secret")
    assert repr(client) == f"{make.__name__}('{ADDRESS}', model='jobs')"
    with pytest.raises(TypeError, match=rf"{make.__name__} is not sent to another process.*; make it there"):
        send(client)
    assert send(Tls("ca.pem"))  # what a client is made of is
