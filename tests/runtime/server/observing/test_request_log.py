"""Which requests get a line in the log."""

import json
import logging

import pytest

from rankport.runtime.server.logs import JsonFormatter
from rankport.runtime.server.observing.call import Call, WorkingFor
from rankport.runtime.server.observing.config import ObservingConfig
from rankport.runtime.server.observing.request_log import RequestLog
from support.engines import Clock


def call(*, streams: bool = False) -> Call:
    return Call("grpc", "Scoring.Score", "order-17", streams, model="jobs")


def test_a_share_of_the_requests_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    draws = iter([0.1, 0.3, 0.2, 0.9])
    log = RequestLog(ObservingConfig(log_requests=0.25), draw=lambda: next(draws))
    for code in ("A", "B", "C", "D"):
        log.write(call(), code, 0.01)
    assert [record.__dict__["fields"]["code"] for record in caplog.records] == ["A", "C"]


def test_slow_requests_are_told_but_streams_may_last(caplog: pytest.LogCaptureFixture) -> None:
    log = RequestLog(ObservingConfig(slow_request_s=2.0))
    log.write(call(), "OK", 1.9)
    log.write(call(streams=True), "OK", 60.0)
    log.write(call(), "DEADLINE_EXCEEDED", 2.0)
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert line.message.startswith(
        "slow request: request_id=order-17 front=grpc method=Scoring.Score model=jobs"
    )
    assert "code=DEADLINE_EXCEEDED ms=2000.0" in line.message


def test_when_all_are_slow_a_few_tell_it(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(5.0)
    log = RequestLog(ObservingConfig(slow_request_s=1.0), clock=clock)
    for _ in range(100):
        log.write(call(), "OK", 1.0)
    assert len(caplog.records) == 10
    clock.now_s = 6.0
    log.write(call(), "OK", 1.0)
    assert [record.message for record in caplog.records[10:11]] == ["90 more slow requests had no line"]
    assert len(caplog.records) == 12


def test_a_json_line_has_the_fields_and_the_request_that_is_worked_for() -> None:
    record = logging.LogRecord("rankport.x", logging.INFO, "file", 1, "done", (), None)
    record.__dict__["fields"] = {"ms": 1.5}
    with WorkingFor(call()):
        entry = json.loads(JsonFormatter().format(record))
    assert (entry["request_id"], entry["ms"], entry["message"]) == ("order-17", 1.5, "done")
