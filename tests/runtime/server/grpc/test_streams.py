"""Streams: those that are open are no work, and none stays open for ever."""

import logging
import queue
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import count
from typing import Any

import grpc
import pytest

from rankport.protos.errors import Unavailable
from rankport.protos.messages import wire
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.counts import Outcome
from rankport.sdk import Client, ScoreCall
from support.servers.serving import Serving, serving
from support.servers.statuses import refusal
from support.servers.supervised import eventually

REQUEST = wire.score_request("", "query", ["a"], "error", "skip")
ADDED = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own


class OpenStream:
    """An encode stream that sends what it is told to."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._outbox: queue.Queue[pb.EncodeStreamRequest | None] = queue.Queue()
        self.answers: Any = pb_grpc.EmbeddingStub(channel).EncodeStream(iter(self._outbox.get, None))

    def send(self, text: str) -> None:
        self._outbox.put(wire.stream_request("", [("id", text)], "error"))

    def finish(self) -> None:
        """Ends it in good order: the server is done with it by then."""
        self._outbox.put(None)
        assert list(self.answers) == []

    def close(self) -> None:
        self.answers.cancel()
        self._outbox.put(None)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def opened(stack: ExitStack, address: str, streams: int = 1) -> list[OpenStream]:
    channel = stack.enter_context(grpc.insecure_channel(address, ADDED))
    made = [OpenStream(channel) for _ in range(streams)]
    for stream in made:
        stack.callback(stream.close)
    return made


def served_with(stack: ExitStack, **settings: Any) -> Serving:
    return stack.enter_context(serving(ServerConfig(port=0, **settings)))


def test_idle_streams_take_no_place_of_a_request(stack: ExitStack) -> None:
    served = served_with(stack, max_pending_calls=1)
    streams = opened(stack, served.address, 5)
    streams[0].send("a")
    assert wire.stream_results(next(streams[0].answers))[0].id == "id"
    channel = stack.enter_context(grpc.insecure_channel(served.address))
    assert len(wire.score_result(pb_grpc.ScoringStub(channel).Score(REQUEST, timeout=10)).scores) == 1
    for stream in streams:
        stream.send("b")
    assert all(wire.stream_results(next(stream.answers))[0].id == "id" for stream in streams)


def test_a_connection_has_so_many_streams_open_and_others_theirs(stack: ExitStack) -> None:
    served = served_with(stack, max_connection_streams=2)
    first, second = opened(stack, served.address, 2)
    for stream in (first, second):
        stream.send("a")
        next(stream.answers)
    channel = stack.enter_context(grpc.insecure_channel(served.address, ADDED))
    others = [OpenStream(channel) for _ in range(2)]
    for stream in others:
        stack.callback(stream.close)
        stream.send("a")
        next(stream.answers)
    third = OpenStream(channel)  # whose turn would be open to chance beside the others
    stack.callback(third.close)
    refused = refusal(lambda: next(third.answers))
    assert refused.name == "Overloaded"
    assert "has 2 streams of this kind open, the limit is 2 (max_connection_streams)" in refused.message
    others[0].finish()
    later = OpenStream(channel)
    stack.callback(later.close)
    later.send("a")
    next(later.answers)


def test_a_stream_that_sends_nothing_is_ended(stack: ExitStack) -> None:
    served = served_with(stack, stream_idle_s=0.05)
    (idle,) = opened(stack, served.address)
    refused = refusal(lambda: next(idle.answers))
    assert (refused.code, refused.name) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DeadlineExceeded")
    assert "sent nothing for 0.05 s (stream_idle_s)" in refused.message


def test_a_stream_that_waits_for_its_answer_is_not_idle(stack: ExitStack) -> None:
    served = served_with(stack, stream_idle_s=0.05)
    served.encoder.worker.gate.clear()
    (waiting, idle) = opened(stack, served.address, 2)
    waiting.send("a")
    assert served.encoder.worker.arrived.acquire(timeout=10)
    refusal(lambda: next(idle.answers))  # by now the time is over for the other as well
    served.encoder.worker.gate.set()
    assert wire.stream_results(next(waiting.answers))[0].id == "id"


def test_a_stop_ends_idle_streams_at_once_and_answers_what_was_read(stack: ExitStack) -> None:
    served = served_with(stack, grace_s=3600)  # no test waits for it
    served.encoder.worker.gate.clear()
    busy, idle = opened(stack, served.address, 2)
    busy.send("a")
    assert served.encoder.worker.arrived.acquire(timeout=10)
    stopping = threading.Thread(target=served.server.stop)
    stopping.start()
    refused = refusal(lambda: next(idle.answers))
    assert (refused.code, refused.name) == (grpc.StatusCode.UNAVAILABLE, "Unavailable")
    assert stopping.is_alive()
    served.encoder.worker.gate.set()
    assert wire.stream_results(next(busy.answers))[0].id == "id"
    assert refusal(lambda: next(busy.answers)).name == "Unavailable"
    stopping.join()


def test_a_stop_refuses_no_message_of_a_stream_of_scores_that_was_read(stack: ExitStack) -> None:
    """Its work may not have begun: of eight streams nearly each had one that was answered by a refusal."""
    served = served_with(stack, grace_s=3600)
    ends: list[str] = []

    def ask() -> None:
        with Client(served.address, "ranker", retry=False) as client, suppress(Unavailable):
            ends.extend(
                "answer" if answer.result else str(answer.error)
                for answer in client.score_stream(ScoreCall(str(number), "q", ["a"]) for number in count())
            )

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        assert served.ranker.worker.arrived.acquire(timeout=10)
    served.server.stop()
    for thread in threads:
        thread.join()
    assert set(ends) == {"answer"}


def unread_stream(stack: ExitStack, served: Serving) -> Any:
    """A stream whose answers are larger than what its client takes unread, once the server has given it up."""
    channel = stack.enter_context(
        grpc.insecure_channel(served.address, [*ADDED, ("grpc.http2.bdp_probe", 0)])
    )
    large = wire.score_request("", "query", ["a"] * 20_000, "error", "skip")
    requests = (pb.ScoreStreamRequest(id=str(number), request=large) for number in range(3))
    answers = pb_grpc.ScoringStub(channel).ScoreStream(requests)
    stack.callback(answers.cancel)
    eventually(lambda: served.server.counts.snapshot()[Outcome.DEADLINE] == 1)
    return answers


def test_a_client_that_reads_late_is_told_that_its_stream_has_ended(
    stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    answers = unread_stream(stack, served_with(stack, stream_idle_s=0.2))
    with pytest.raises(grpc.RpcError) as raised:
        list(answers)
    ended: Any = raised.value
    assert ended.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "the client read nothing for 0.2 s (stream_idle_s)" in ended.details()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_stream_that_nobody_reads_holds_up_no_stop(stack: ExitStack) -> None:
    served = served_with(stack, stream_idle_s=0.2, grace_s=1e6)
    unread_stream(stack, served)
    served.server.stop()
