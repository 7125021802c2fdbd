"""A log line in JSON is one object, whatever is in the record; and a log that nobody reads holds up nobody."""

import json
import logging
import os
import resource
import sys
from datetime import datetime
from pathlib import Path

import pytest
from grpc._cython import cygrpc

from rankport.runtime.server.logs import JsonFormatter, PlainFormatter, UnblockedHandler, is_told
from rankport.runtime.server.observing.call import Call, WorkingFor


def record(message: str, *args: object, error: bool = False) -> dict[str, str]:
    info = sys.exc_info() if error else None
    made = logging.LogRecord("rankport.x", logging.ERROR, "file", 1, message, args, info)
    line = JsonFormatter().format(made)
    assert "\n" not in line
    parsed: dict[str, str] = json.loads(line)
    return parsed


def test_a_record_has_time_level_logger_and_message() -> None:
    entry = record('two\nlines of "%s"', "naïve")
    assert (entry["level"], entry["logger"]) == ("error", "rankport.x")
    assert entry["message"] == 'two\nlines of "naïve"'
    assert datetime.fromisoformat(entry["time"]).utcoffset() is not None
    assert "traceback" not in entry


def test_an_error_has_its_traceback() -> None:
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError:
        entry = record("failed", error=True)
    assert entry["traceback"].endswith("ZeroDivisionError: by zero")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('Failed "execute_batch": (<SendStatusFromServerOperation>,)', False),
        ("Failed grpc_call_start_batch: 8", True),
    ],
)
def test_a_client_that_left_as_it_was_answered_is_no_error_of_the_server(text: str, told: bool) -> None:
    try:
        raise cygrpc.ExecuteBatchError(text)
    except cygrpc.ExecuteBatchError:
        info = sys.exc_info()
    made = logging.LogRecord("grpc._cython.cygrpc", logging.ERROR, "file", 1, "raised in core", (), info)
    assert is_told(made) == told
    assert is_told(logging.LogRecord("x", logging.ERROR, "file", 1, text, (), None))


def test_text_of_a_client_makes_no_line_of_its_own() -> None:
    path = "naïve\n2026-01-01 INFO all is well\r\x1b[2K\u2028"
    made = logging.LogRecord("rankport.x", logging.ERROR, "file", 1, "%s was not loaded", (path,), None)
    line = PlainFormatter("%(levelname)s %(message)s").format(made)
    assert line == r"ERROR naïve\n2026-01-01 INFO all is well\r\x1b[2K\u2028 was not loaded"


def test_a_line_names_the_client_whose_call_it_is_of() -> None:
    made = logging.LogRecord("x", logging.INFO, "file", 1, "jobs@2 is unloaded", (), None)
    call = Call("grpc", "ModelAdmin.Unload", "mine-7")
    call.client = "deploy"
    with WorkingFor(call):
        assert PlainFormatter("%(message)s").format(made) == "jobs@2 is unloaded (client deploy)"
        entry = record("jobs@2 is unloaded")
    assert (entry["client"], entry["request_id"]) == ("deploy", "mine-7")
    assert PlainFormatter("%(message)s").format(made) == "jobs@2 is unloaded"


def test_a_plain_record_has_its_traceback_in_lines() -> None:
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError:
        made = logging.LogRecord("x", logging.ERROR, "file", 1, "failed", (), sys.exc_info())
    first, *rest = PlainFormatter("%(message)s").format(made).splitlines()
    assert (first, rest[-1]) == ("failed", "ZeroDivisionError: by zero")


def test_lines_that_nobody_reads_are_lost_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with open(writing, "w", encoding="utf-8") as stream, open(reading, "rb") as reader:
        monkeypatch.setattr(sys, "stderr", stream)
        handler = UnblockedHandler()
        handler.setFormatter(JsonFormatter())
        texts = [f"{number} {'x' * 10_000}" for number in range(20)]
        for text in texts:  # more than a pipe holds
            handler.emit(logging.LogRecord("x", logging.INFO, "file", 1, text, None, None))
        os.set_blocking(reading, False)
        written = reader.read()
        handler.emit(logging.LogRecord("x", logging.INFO, "file", 1, "after", None, None))
        written += reader.read()
    *whole, cut, lost, after = written.decode().splitlines()
    assert [json.loads(line)["message"] for line in whole] == texts[: len(whole)]
    assert texts[len(whole)].startswith(cut.partition('"message": "')[2][:100])
    assert f"{20 - len(whole)} lines of the log are lost" in json.loads(lost)["message"]
    assert json.loads(after)["message"] == "after"


def test_lines_that_a_full_disk_does_not_take_are_lost_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "log"
    with file.open("w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        handler = UnblockedHandler()
        handler.setFormatter(JsonFormatter())

        def log(text: str) -> None:
            handler.emit(logging.LogRecord("x", logging.INFO, "file", 1, text, None, None))

        log("before")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 20, hard))
        try:
            for text in ("cut", "lost", "lost too"):
                log(text)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        log("after")
        log("later")
    before, cut, lost, after, later = file.read_text(encoding="utf-8").splitlines()
    assert len(cut) == 20
    assert [json.loads(line)["message"] for line in (before, after, later)] == ["before", "after", "later"]
    assert "3 lines of the log are lost" in json.loads(lost)["message"]


def test_a_stream_that_is_no_file_is_written_to(capsys: pytest.CaptureFixture[str]) -> None:
    handler = UnblockedHandler()
    handler.emit(logging.LogRecord("x", logging.INFO, "file", 1, "told", None, None))
    assert capsys.readouterr().err == "told\n"
