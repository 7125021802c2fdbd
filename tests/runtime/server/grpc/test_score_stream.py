"""ScoreStream: answers as they come, under their ids; what fails one request fails it alone."""

import asyncio
import queue
import re
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from rankport.protos.errors import DeadlineExceeded, InvalidRequest, NotFound, Overloaded, RankportError
from rankport.protos.messages import wire
from rankport.protos.messages.streamed import ScoreCall, StreamedScore
from rankport.protos.types import Key
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.server.server import Server
from rankport.sdk import AsyncClient, Client
from support.servers.deterministic_models import DeterministicRanker
from support.servers.serving import LOCAL, Serving, serving

CALLS = [ScoreCall(f"call-{number}", "query", ["a" * (number + 1), [number]]) for number in range(60)]


@pytest.fixture
def served() -> Iterator[Serving]:
    with serving() as running:
        yield running


def _check(served: Serving, answers: list[StreamedScore]) -> None:
    assert sorted(answer.id for answer in answers) == sorted(call.id for call in CALLS)
    by_id = {call.id: call for call in CALLS}
    for answer in answers:
        call = by_id[answer.id]
        expected = served.ranker.score(call.prefix, list(call.items))  # type: ignore[arg-type]
        np.testing.assert_array_equal(answer.value().scores, expected.scores)


def test_every_call_is_answered_under_its_id_in_both_clients(served: Serving) -> None:
    with Client(served.address, "ranker") as client:
        _check(served, list(client.score_stream(CALLS, window=5)))

    async def stream() -> list[StreamedScore]:
        async with AsyncClient(served.address, "ranker") as client:
            return [answer async for answer in client.score_stream(CALLS, window=5)]

    _check(served, asyncio.run(stream()))


def test_an_answer_does_not_wait_for_that_of_an_earlier_message() -> None:
    models = {"slow": DeterministicRanker(), "fast": DeterministicRanker()}
    models["slow"].worker.gate.clear()
    messages = [
        pb.ScoreStreamRequest(id=model, request=wire.score_request(model, "query", ["a"], "error", "skip"))
        for model in models
    ]
    with Server(models, LOCAL) as server, grpc.insecure_channel(server.address) as channel:  # type: ignore[arg-type]
        responses = pb_grpc.ScoringStub(channel).ScoreStream(iter(messages), timeout=20.0)
        assert next(responses).id == "fast"
        models["slow"].worker.gate.set()
        assert next(responses).id == "slow"
        assert list(responses) == []
    for model in models.values():
        model.close()


def test_a_bad_message_fails_alone_with_the_error_of_its_own_call(served: Serving) -> None:
    bad: dict[str, tuple[ScoreCall, type[RankportError], str]] = {
        "unsendable": (ScoreCall("", "query", [1.5]), InvalidRequest, "item 0"),  # type: ignore[list-item]
        "half": (ScoreCall("", "query", ["\ud800"]), InvalidRequest, "half of a character"),
        "timeout": (ScoreCall("", "query", ["a"], timeout_s=-1.0), InvalidRequest, "timeout_s is -1.0"),
    }
    calls = [CALLS[0], *(replace(call, id=name) for name, (call, _, _) in bad.items()), CALLS[1]]
    with Client(served.address, "ranker") as client:
        answers = {answer.id: answer for answer in client.score_stream(calls)}
    assert answers.keys() == {CALLS[0].id, CALLS[1].id, *bad}
    assert {id for id, answer in answers.items() if answer.error is None} == {CALLS[0].id, CALLS[1].id}
    for name, (_, error, says) in bad.items():
        with pytest.raises(error, match=says):
            answers[name].value()


def test_a_source_may_wait_for_the_answer_of_each_call_bad_ones_too(served: Serving) -> None:
    calls = [replace(CALLS[place], items=items) for place, items in enumerate(([1.5], ["a"], [None], [2.5]))]
    answered, ids = queue.SimpleQueue[str](), [call.id for call in calls]

    def asked() -> Iterator[ScoreCall]:
        for call in calls:
            yield call
            assert answered.get(timeout=10.0) == call.id

    with Client(served.address, "ranker") as client:
        errors = []
        for answer in client.score_stream(asked(), timeout_s=20.0):
            errors.append(answer.error is not None)
            answered.put(answer.id)
    assert errors == [True, False, True, True]

    async def stream() -> list[str]:
        turn = asyncio.Event()

        async def asked() -> AsyncIterator[ScoreCall]:
            for call in calls:
                yield call
                await turn.wait()
                turn.clear()

        told = []
        async with AsyncClient(served.address, "ranker") as client:
            async for answer in client.score_stream(asked(), timeout_s=20.0):
                told.append(answer.id)
                turn.set()
        return told

    assert asyncio.run(stream()) == ids


def test_what_the_server_refuses_it_refuses_by_message(served: Serving) -> None:
    good = wire.score_request("ranker", "query", ["a"], "error", "skip")
    unset = pb.ScoreRequest(model="ranker", items=good.items)
    unknown = wire.score_request("other", "query", ["a"], "error", "skip")
    requests = {"good": good, "unset": unset, "unknown": unknown, "late": good, "again": good}
    served.ranker.worker.gate.clear()
    messages = [
        pb.ScoreStreamRequest(id=id, request=request, timeout_s=1e-9 if id == "late" else 0.0)
        for id, request in requests.items()
    ]
    with grpc.insecure_channel(served.address) as channel:
        answers = {}
        responses = pb_grpc.ScoringStub(channel).ScoreStream(iter(messages), timeout=20.0)
        for response in responses:
            answers[response.id] = response
            served.ranker.worker.gate.set()
    names = {id: answer.error.name for id, answer in answers.items() if answer.HasField("error")}
    assert names == {
        "unset": InvalidRequest.__name__,
        "unknown": NotFound.__name__,
        "late": DeadlineExceeded.__name__,
    }
    assert {id for id, answer in answers.items() if answer.HasField("response")} == {"good", "again"}
    assert "prefix is not set" in answers["unset"].error.message


def test_the_example_of_the_page_runs(served: Serving) -> None:
    page = (Path(__file__).parents[4] / "docs" / "serving.md").read_text(encoding="utf-8")
    (example,) = [part for part in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "ScoreCall" in part]
    names: dict[str, Any] = {}
    exec(example, names)
    with Client(served.address, "ranker") as client:
        assert names["stream"](client, {"1": "a", "2": "b"}, ["c"]) == {"1": [97 + 99], "2": [98 + 99]}


def test_an_overload_is_the_answer_of_the_message_that_met_it(served: Serving) -> None:
    served.ranker.refuse_with = Overloaded("the queue is full")
    with Client(served.address, "ranker") as client:
        (answer,) = client.score_stream(CALLS[:1])
    assert isinstance(answer.error, Overloaded)
    assert answer.error.retry_after_s is not None
    assert answer.error.retry_after_s > 0


def test_bytes_that_are_no_message_end_the_stream_behind_the_answers_to_those_before(served: Serving) -> None:
    good = wire.score_request("ranker", "query", ["a"], "error", "skip")
    messages = [pb.ScoreStreamRequest(id="good", request=good).SerializeToString(), b"\xff\xff"]
    with grpc.insecure_channel(served.address) as channel:
        method = channel.stream_stream(
            "/rankport.v1.Scoring/ScoreStream", lambda data: data, pb.ScoreStreamResponse.FromString
        )
        responses = method(iter(messages), timeout=20.0)
        assert next(responses).id == "good"
        with pytest.raises(grpc.RpcError) as raised:
            next(responses)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_who_leaves_a_stream_lets_go_of_its_source(served: Serving) -> None:
    closed = threading.Event()

    def endless() -> Iterator[ScoreCall]:
        try:
            while True:
                yield CALLS[0]
        finally:
            closed.set()

    with Client(served.address, "ranker") as client:
        answers = client.score_stream(endless(), window=2)
        assert next(answers).value().scores.shape == (2,)
        answers.close()  # type: ignore[attr-defined]
        assert closed.wait(20.0)


def test_an_error_of_the_source_comes_after_the_answers(served: Serving) -> None:
    def broken() -> Iterator[ScoreCall]:
        yield from CALLS[:3]
        raise ValueError("the source broke")

    answers = []
    with Client(served.address, "ranker") as client:
        with pytest.raises(ValueError, match="the source broke"):
            answers.extend(client.score_stream(broken()))
        with pytest.raises(InvalidRequest, match="window is 0"):
            next(client.score_stream(CALLS, window=0))
        with pytest.raises(InvalidRequest, match="calls has 'query'; give each as a ScoreCall"):
            next(client.score_stream(["query"]))  # type: ignore[list-item]
        assert next(client.score_stream([ScoreCall("k", "query", [Key("abc")])])).value().scores.shape == (1,)
