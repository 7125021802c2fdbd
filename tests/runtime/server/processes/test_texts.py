"""Texts that stream through fronts: the tokens of one process, and the right end when a process dies meanwhile.

At once is before the deadline, whose status is another: how long a busy machine takes is no part of it.
"""

import os
import signal
from collections.abc import Iterator

import grpc
import pytest

from rankport.protos.generation import Sampling
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.server.processes.supervisor import Supervisor
from support.servers.callers import Callers, Streamed, callers
from support.servers.supervised import ONE_THREAD, eventually, halt

LONG = Sampling(max_tokens=64)


@pytest.fixture(scope="module")
def expected(generator_bundle: Bundle) -> Iterator[list[int]]:
    """The text's tokens, as one process writes them."""
    with Generator.load(generator_bundle, config=ONE_THREAD) as generator:
        yield list(generator.generate([5], LONG).token_ids)


def halted_midway(server: Supervisor, calling: Callers) -> list[Streamed]:
    """Halts the engine when some texts have some of their tokens; one more on each connection has none yet."""
    for _ in range(10):
        texts = calling.write("writer", LONG, texts=8)
        eventually(lambda: any(text.ids or text.code for text in texts))  # noqa: B023
        halt(server.engine_pids[0])
        if any(text.ids and text.code is None for text in texts):
            return texts + calling.write("writer", LONG)
        os.kill(server.engine_pids[0], signal.SIGCONT)
    pytest.fail("all texts were written before the engine could be halted")


def test_texts_under_way_when_the_engine_dies_end_at_once_as_unavailable(
    server: Supervisor, expected: list[int]
) -> None:
    with callers(server.address, 6) as calling:
        texts = halted_midway(server, calling)
        os.kill(server.engine_pids[0], signal.SIGKILL)
        outcomes = [text.wait() for text in texts]
        lost = [text for text in outcomes if text.code is not grpc.StatusCode.OK]
        assert lost
        assert {text.code for text in lost} == {grpc.StatusCode.UNAVAILABLE}
        assert all(text.trailers["grpc-retry-pushback-ms"] == "1000" for text in lost)
        assert all(text.ids == expected[: len(text.ids)] for text in outcomes)
        eventually(lambda: writes_again(calling, expected))


def test_a_front_that_dies_takes_its_own_texts_with_it_and_no_other(
    server: Supervisor, expected: list[int]
) -> None:
    dying, living = server.front_pids
    with callers(server.address, 16) as calling:
        texts = halted_midway(server, calling)
        try:
            os.kill(dying, signal.SIGKILL)
            eventually(lambda: any(text.code is grpc.StatusCode.UNAVAILABLE for text in texts))
        finally:
            os.kill(server.engine_pids[0], signal.SIGCONT)
        outcomes = [text.wait() for text in texts]
        lost = [text for text in outcomes if text.code is not grpc.StatusCode.OK]
        assert {text.code for text in lost} == {grpc.StatusCode.UNAVAILABLE}
        whole = [text for text in outcomes if text.code is grpc.StatusCode.OK]
        assert whole
        assert all(text.ids == expected for text in whole)
        eventually(lambda: dying not in server.front_pids and server.all_answer)
        assert living in server.front_pids


def test_a_text_that_its_client_cancels_leaves_the_others_theirs(
    server: Supervisor, expected: list[int]
) -> None:
    with callers(server.address, 4) as calling:
        texts = calling.write("writer", LONG, texts=4)
        eventually(lambda: bool(texts[0].ids or texts[0].code))
        for text in texts[::2]:
            text.cancel()
        assert all(text.wait().ids == expected for text in texts[1::2])
        ends = {text.wait().code for text in texts[::2]}
        assert ends <= {grpc.StatusCode.CANCELLED, grpc.StatusCode.OK}


def writes_again(calling: Callers, expected: list[int]) -> bool:
    texts = [text.wait() for text in calling.write("writer", LONG)]
    return all(text.code is grpc.StatusCode.OK and text.ids == expected for text in texts)
