"""Fate of a call: answers, the error table, overload, deadlines and cancellations."""

import logging
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from rankport.protos import errors
from rankport.protos.messages import wire
from rankport.protos.types import Key, ScoreResult
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.counts import Outcome
from rankport.runtime.server.grpc.calls import why_given_up
from support.servers.serving import Serving, serving
from support.servers.supervised import eventually
from support.servers.ways import way_to


@pytest.fixture
def served() -> Iterator[Serving]:
    with serving() as running:
        yield running


@pytest.fixture
def stub(served: Serving) -> Iterator[pb_grpc.ScoringStub]:
    with grpc.insecure_channel(served.address) as channel:
        yield pb_grpc.ScoringStub(channel)


def request(items: Any = ("a", "b"), model: str = "") -> pb.ScoreRequest:
    return wire.score_request(model, "query", items, "error", "skip")


def failure(call: Any) -> tuple[grpc.StatusCode, str, str]:
    """Status, message and error class of a call that fails."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    error: Any = raised.value
    return error.code(), error.details(), dict(error.trailing_metadata()).get(errors.ERROR_METADATA_KEY, "")


def equal(left: ScoreResult, right: ScoreResult) -> bool:
    return (
        np.array_equal(left.logits, right.logits, equal_nan=True)
        and np.array_equal(left.scores, right.scores, equal_nan=True)
        and (left.status, left.messages, left.usage) == (right.status, right.messages, right.usage)
        and left.fingerprint == right.fingerprint
    )


@pytest.mark.parametrize(
    "items",
    [
        ["a", "bc"],
        [[1, 2], [3]],
        np.ones((2, 1, 3), np.float16),
        [Key("k1"), Key("missing")],
        ["a", [1], np.ones((2, 3), np.float32), Key("missing")],
        [],
    ],
    ids=["texts", "token ids", "embeddings", "keys", "mixed", "none"],
)
def test_an_answer_is_that_of_the_model_in_process(
    served: Serving, stub: pb_grpc.ScoringStub, items: Any
) -> None:
    for truncation in ("error", "truncate"):
        message = wire.score_request("", {"query": "nurse"}, items, truncation, "fail")
        remote = wire.score_result(stub.Score(message))
        local = served.ranker.score({"query": "nurse"}, items, truncation=truncation, on_missing="fail")
        assert equal(remote, local)
    assert served.server.counts.snapshot()[Outcome.ANSWERED] == 2


@pytest.mark.parametrize("cls", errors.STATUS_CODES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("where", ["refuse_with", "fail_with"])
def test_an_error_of_the_model_ends_the_call_with_its_status_class_and_message(
    served: Serving, stub: pb_grpc.ScoringStub, cls: type[errors.RankportError], where: str
) -> None:
    setattr(served.ranker, where, cls("item 3 is too long: 900 > 512 – naïve"))
    code, message, name = failure(lambda: stub.Score(request()))
    assert code is errors.STATUS_CODES[cls]
    assert message == "item 3 is too long: 900 > 512 – naïve"
    assert name == cls.__name__


def test_an_unexpected_error_shows_an_id_to_the_client_and_its_traceback_to_the_log(
    served: Serving, stub: pb_grpc.ScoringStub, caplog: pytest.LogCaptureFixture
) -> None:
    served.ranker.fail_with = ZeroDivisionError("secret path")
    code, message, name = failure(lambda: stub.Score(request()))
    assert (code, name) == (grpc.StatusCode.INTERNAL, "BackendError")
    assert "secret" not in message
    (record,) = (record for record in caplog.records if record.levelno >= logging.ERROR)
    assert record.getMessage().split()[-1] in message
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    assert served.server.counts.snapshot()[Outcome.OTHER] == 1


def test_want_of_memory_is_an_overload_and_the_next_call_is_answered(
    served: Serving, stub: pb_grpc.ScoringStub, caplog: pytest.LogCaptureFixture
) -> None:
    served.ranker.fail_with = MemoryError("Unable to allocate 8.00 GiB")
    code, message, name = failure(lambda: stub.Score(request()))
    assert (code, name) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "Overloaded")
    assert "no memory left for this request" in message
    assert "Unable to allocate 8.00 GiB" in caplog.text
    served.ranker.fail_with = None
    assert stub.Score(request()).HasField("scores")
    counts = served.server.counts.snapshot()
    assert (counts[Outcome.REJECTED], counts[Outcome.ANSWERED]) == (1, 1)


def test_a_message_too_long_for_a_header_arrives_clipped(served: Serving, stub: pb_grpc.ScoringStub) -> None:
    served.ranker.fail_with = errors.InvalidRequest("語" * 5000)
    code, message, _ = failure(lambda: stub.Score(request()))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message.startswith("語" * 100)
    assert len(message) < 1000


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (pb.ScoreRequest(), "prefix is not set"),
        (
            request(items=["a"], model="other"),
            "no model that scores is named 'other'; this server has ranker",
        ),
        (
            request(items=["a"], model="encoder"),
            "no model that scores is named 'encoder', which encodes; this server has ranker",
        ),
    ],
)
def test_a_request_at_fault_is_told_why(
    served: Serving, stub: pb_grpc.ScoringStub, message: pb.ScoreRequest, says: str
) -> None:
    code, details, _ = failure(lambda: stub.Score(message))
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    assert says in details
    assert served.server.counts.snapshot()[Outcome.INVALID] == 1


def test_a_full_queue_of_the_model_answers_at_once(stub: pb_grpc.ScoringStub, served: Serving) -> None:
    served.ranker.refuse_with = errors.Overloaded("1000 requests are queued")
    assert failure(lambda: stub.Score(request()))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert served.server.counts.snapshot()[Outcome.REJECTED] == 1


def test_calls_over_the_limit_are_refused_while_those_admitted_are_answered() -> None:
    config = ServerConfig(port=0, max_pending_calls=1)
    with serving(config) as served, grpc.insecure_channel(served.address) as channel:
        stub = pb_grpc.ScoringStub(channel)
        served.ranker.worker.gate.clear()
        first = stub.Score.future(request())
        served.ranker.worker.arrived.acquire()
        code, details, _ = failure(lambda: stub.Score(request()))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "1 request is pending, the limit is 1 (max_pending_calls)" in details
        served.ranker.worker.gate.set()
        assert len(wire.score_result(first.result()).scores) == 2
        assert len(wire.score_result(stub.Score(request())).scores) == 2


def test_the_time_left_reaches_the_model(served: Serving, stub: pb_grpc.ScoringStub) -> None:
    stub.Score(request(), timeout=5000)
    stub.Score(request())
    with_deadline, without = served.ranker.worker.timeouts
    assert with_deadline is not None
    assert 4000 < with_deadline < 6000  # gRPC sends it rounded up, by some percent
    assert without is None


def test_work_past_its_deadline_is_dropped_before_it_is_computed() -> None:
    # A machine may be too busy for a call to arrive in its time: then the next has more, at another server.
    assert any(dropped_past_its_deadline(timeout_s) for timeout_s in (1.0, 4.0, 16.0, 64.0))


def dropped_past_its_deadline(timeout_s: float) -> bool:
    """Checks the end of a call that has so long; False where it did not arrive in that time."""
    with serving() as served, way_to(served.address) as way, grpc.insecure_channel(way.address) as channel:
        worker, counts = served.ranker.worker, served.server.counts.snapshot
        worker.gate.clear()
        doomed = pb_grpc.ScoringStub(channel).Score.future(request(), timeout=timeout_s)
        if not worker.arrived.acquire(timeout=timeout_s):
            return False
        way.open.clear()  # that the client gives it up does not reach the server, which sees the time for itself
        assert doomed.exception().code() is grpc.StatusCode.DEADLINE_EXCEEDED
        eventually(lambda: counts()[Outcome.DEADLINE] == 1)
        worker.gate.set()
        with grpc.insecure_channel(served.address) as direct:
            pb_grpc.ScoringStub(direct).Score(request())
        assert (worker.computed, worker.dropped) == (1, 1)
        assert counts()[Outcome.ANSWERED] == 1
        assert sum(counts().values()) == 2
        return True


@pytest.mark.parametrize(
    ("allowed_s", "left_s", "why"),
    [
        (None, None, Outcome.CANCELLED),
        (60.0, 59.0, Outcome.CANCELLED),
        (60.0, 0.11, Outcome.CANCELLED),
        (60.0, 0.09, Outcome.DEADLINE),  # its client's clock is a little ahead
        (0.2, 0.05, Outcome.CANCELLED),
        (0.2, 0.03, Outcome.DEADLINE),
        (60.0, -1.0, Outcome.DEADLINE),
    ],
)
def test_a_deadline_is_told_from_a_cancellation_by_the_time_that_is_left(
    allowed_s: float | None, left_s: float | None, why: Outcome
) -> None:
    assert why_given_up(allowed_s, left_s) is why


def test_cancelled_work_is_dropped_before_it_is_computed(served: Serving, stub: pb_grpc.ScoringStub) -> None:
    worker = served.ranker.worker
    worker.gate.clear()
    doomed = stub.Score.future(request())
    assert worker.arrived.acquire(timeout=10)
    assert worker.arrived.acquire(blocking=False) is False
    doomed.cancel()
    # The cancellation travels ahead of this call on the same connection.
    later = stub.Score.future(request())
    assert worker.arrived.acquire(timeout=10)
    assert worker.cancelled.acquire(timeout=60)
    worker.gate.set()
    later.result()
    assert (worker.computed, worker.dropped) == (1, 1)
    assert served.server.counts.snapshot()[Outcome.CANCELLED] == 1


def test_work_cancelled_long_before_its_deadline_counts_as_cancelled(
    served: Serving, stub: pb_grpc.ScoringStub
) -> None:
    worker = served.ranker.worker
    worker.gate.clear()
    doomed = stub.Score.future(request(), timeout=60)
    assert worker.arrived.acquire(timeout=10)
    doomed.cancel()
    later = stub.Score.future(request())
    assert worker.arrived.acquire(timeout=10)
    assert worker.cancelled.acquire(timeout=60)
    worker.gate.set()
    later.result()
    counts = served.server.counts.snapshot()
    assert (counts[Outcome.CANCELLED], counts[Outcome.DEADLINE]) == (1, 0)


def test_ten_thousand_items_fit_one_message(stub: pb_grpc.ScoringStub) -> None:
    items = np.ones((10_000, 1, 256), np.float32)  # 10 MB: over gRPC's default of 4
    assert len(wire.score_result(stub.Score(request(items))).scores) == 10_000


def test_a_message_over_the_limit_is_refused() -> None:
    config = ServerConfig(port=0, max_message_bytes=10_000)
    with serving(config) as served, grpc.insecure_channel(served.address) as channel:
        stub = pb_grpc.ScoringStub(channel)
        code, details, _ = failure(lambda: stub.Score(request(["x" * 20_000])))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in details
        assert len(wire.score_result(stub.Score(request())).scores) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-priority", "background"),
        ("x-request-id", "mine"),
        ("x-model", "ranker"),
        ("authorization", "Bearer mine"),
    ],
)
def test_metadata_that_says_two_things_is_refused(name: str, value: str, stub: pb_grpc.ScoringStub) -> None:
    twice = ((name, value), (name, "interactive"))
    code, message, error = failure(lambda: stub.Score(request(), metadata=twice))
    assert (code, error) == (grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest")
    assert message == f"{name} is given twice, with two values: give it once"
    stub.Score(request(), metadata=(twice[0], twice[0], ("mine", "a"), ("mine", "b")))


@pytest.mark.parametrize("method", ["/rankport.v1.Scoring/Nope", "/nope.v1.Scoring/Score"])
def test_a_method_that_there_is_not_is_counted(method: str, served: Serving) -> None:
    with grpc.insecure_channel(served.address) as channel:
        code, message, _ = failure(
            lambda: channel.unary_unary(method)(b"", metadata=(("x-request-id", "mine"),))
        )
    assert (code, message) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
    assert served.server.counts.snapshot()[Outcome.INVALID] == 1
