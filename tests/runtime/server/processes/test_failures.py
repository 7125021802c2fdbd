"""A process that dies under traffic: every call ends with the right status at once, and answers come again.

At once is before the deadline, whose status is another: how long a busy machine takes is no part of it.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import numpy as np

from rankport.protos.errors import Unavailable
from rankport.protos.messages import wire
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.server.processes.supervisor import Supervisor
from rankport.sdk import Client
from support.servers.callers import Ended, callers, ended
from support.servers.http import ask
from support.servers.supervised import eventually, halt, shared_memory

ITEMS = ["nurse", "welder", "chief cook"]


@contextmanager
def halted(pid: int) -> Iterator[None]:
    """Halts a process, so that what it is asked meanwhile is under way."""
    halt(pid)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def answers_again(server: Supervisor) -> None:
    """Waits until new connections, to either front, are answered."""

    def try_once() -> bool:
        with callers(server.address, 6) as calling:
            return all(ended(call).code is grpc.StatusCode.OK for call in calling.begin(ITEMS))

    eventually(try_once)


def scores_of(call: Ended) -> np.ndarray:
    assert call.response is not None
    return wire.score_result(call.response).scores


def test_calls_under_way_when_the_engine_dies_are_told_to_come_again_at_once(
    server: Supervisor, ranker: Ranker
) -> None:
    before = server.engine_pids[0]
    with callers(server.address, 12) as calling:
        halt(before)
        calls = calling.begin(ITEMS)
        eventually(lambda: not any(call.done() for call in calls))
        os.kill(before, signal.SIGKILL)
        outcomes = [ended(call) for call in calls]
        assert {outcome.code for outcome in outcomes} == {grpc.StatusCode.UNAVAILABLE}
        assert all(outcome.trailers["grpc-retry-pushback-ms"] == "1000" for outcome in outcomes)
    answers_again(server)
    assert server.engine_pids[0] != before
    with Client(server.address, "mix", timeout_s=30) as client:
        np.testing.assert_allclose(
            client.score("head nurse", ITEMS).scores,
            ranker.score("head nurse", ITEMS).scores,
            rtol=0,
            atol=1e-5,
        )


def test_calls_while_the_engine_is_away_are_refused_at_once(server: Supervisor) -> None:
    with callers(server.address, 8) as calling:
        os.kill(server.engine_pids[0], signal.SIGKILL)
        eventually(
            lambda: {ended(call).code for call in calling.begin(ITEMS)} == {grpc.StatusCode.UNAVAILABLE}
        )
    answers_again(server)


def test_health_says_that_a_model_waits_for_its_engine_and_not_for_its_store(server: Supervisor) -> None:
    before = server.engine_pids[0]
    said: set[str] = set()

    def look() -> bool:
        health = ask(server.http_address, "/health").json
        said.update(health.get("reasons", {}).values())
        return server.engine_pids[0] != before and health["status"] == "ready" and bool(said)

    halt(before)
    os.kill(before, signal.SIGKILL)
    eventually(look)
    assert said == {"waits for its engine's process, which has ended and is started again"}
    answers_again(server)


def test_a_front_that_dies_takes_its_own_calls_with_it_and_no_other(
    server: Supervisor, ranker: Ranker
) -> None:
    dying, living = server.front_pids
    expected = ranker.score("head nurse", ITEMS).scores
    with callers(server.address, 16) as calling:
        with halted(server.engine_pids[0]):
            calls = calling.begin(ITEMS)
            eventually(lambda: not any(call.done() for call in calls))
            os.kill(dying, signal.SIGKILL)
            eventually(lambda: any(call.done() for call in calls))
        outcomes = [ended(call) for call in calls]
    lost = [outcome for outcome in outcomes if outcome.code is grpc.StatusCode.UNAVAILABLE]
    answered = [outcome for outcome in outcomes if outcome.code is grpc.StatusCode.OK]
    assert len(lost) + len(answered) == 16
    assert lost
    assert answered
    for outcome in answered:
        np.testing.assert_allclose(scores_of(outcome), expected, rtol=0, atol=1e-5)
    eventually(lambda: dying not in server.front_pids)
    assert living in server.front_pids
    answers_again(server)


def test_the_memory_of_processes_that_died_is_given_back(server: Supervisor) -> None:
    assert not shared_memory()
    # Three models, a ring each way.
    eventually(
        lambda: [len(rings_of(pid)) for pid in (*server.front_pids, *server.engine_pids)] == [6, 6, 12]
    )


def rings_of(pid: int) -> list[str]:
    with open(f"/proc/{pid}/maps", encoding="utf-8") as lines:
        return [line for line in lines if "memfd:rankport (" in line]


def test_a_client_that_retries_sees_nothing_of_an_engine_that_dies(server: Supervisor) -> None:
    with Client(server.address, "mix", timeout_s=60) as client:
        client.score("head nurse", ITEMS)
        os.kill(server.engine_pids[0], signal.SIGKILL)
        for _ in range(20):
            try:
                assert len(client.score("head nurse", ITEMS).scores) == len(ITEMS)
            except Unavailable:  # as often as it may be tried again
                continue
            break
    answers_again(server)
