"""Log records as JSON, one object a line."""

import faulthandler
import io
import json
import logging
from contextlib import suppress
from datetime import UTC, datetime

from rankport.runtime.server.observing.call import current_call


def log_to_stderr(json_log: bool, process: str = "") -> None:
    """Sends what the runtime logs to stderr; of several processes each line says which one wrote it.

    A signal that the process raises itself (SIGSEGV, SIGBUS) leaves there where each thread was.
    """
    handler = logging.StreamHandler()
    own = f" [{process}]" if process else ""
    plain = logging.Formatter(f"%(asctime)s{own} %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter(process) if json_log else plain)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    with suppress(
        io.UnsupportedOperation
    ):  # a stream that is no file, as a program that embeds this one may have
        faulthandler.enable()


class JsonFormatter(logging.Formatter):
    """Time in UTC, level, logger, message, the request, a record's own `fields`, and the traceback of an error."""

    def __init__(self, process: str = "") -> None:
        """`process`: its name, where there are several."""
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._process:
            entry["process"] = self._process
        call = current_call()
        if call is not None:
            entry["request_id"] = call.request_id
        fields = getattr(record, "fields", None)
        if fields:
            entry |= {"message": entry["message"].partition(":")[0], **fields}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)
