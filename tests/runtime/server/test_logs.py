"""A log line in JSON is one object, whatever is in the record."""

import json
import logging
import sys
from datetime import datetime

from rankport.runtime.server.logs import JsonFormatter


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
