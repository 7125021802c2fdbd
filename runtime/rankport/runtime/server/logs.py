"""The log of a server: as text or one JSON object a line, on a stream that may hold up nobody."""

import faulthandler
import io
import json
import logging
import os
import select
import sys
from contextlib import suppress
from datetime import UTC, datetime

from rankport.protos.wording import be, counted
from rankport.runtime.server.observing.call import current_call

_ATOMIC_BYTES = select.PIPE_BUF  # a pipe that takes any takes so many at once
_READ_WITHIN_S = 1.0  # by who reads a pipe, before it counts as one that nobody reads


def log_to_stderr(json_log: bool, process: str = "") -> None:
    """Sends what the runtime logs to stderr; of several processes each line says which one wrote it.

    A signal that the process raises itself (SIGSEGV, SIGBUS) leaves there where each thread was.
    """
    handler = UnblockedHandler()
    own = f" [{process}]" if process else ""
    plain = PlainFormatter(f"%(asctime)s{own} %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter(process) if json_log else plain)
    handler.addFilter(is_told)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    with suppress(
        io.UnsupportedOperation
    ):  # a stream that is no file, as a program that embeds this one may have
        faulthandler.enable()


def is_told(record: logging.LogRecord) -> bool:
    """Says whether a record is worth a line: gRPC tells clients that left as they were answered as errors of its own.

    Under load, with short timeouts, that is many a second.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not (
        type(error).__name__ == "ExecuteBatchError" and str(error).startswith('Failed "execute_batch"')
    )


class UnblockedHandler(logging.StreamHandler[io.TextIOBase]):
    """Writes to stderr, and goes on without the lines that it does not take: a pipe that nobody reads, a full disk.

    Who writes is often the event loop: a log collector that hangs would hang the server.
    """

    def __init__(self) -> None:
        super().__init__(sys.stderr)  # type: ignore[arg-type]
        self._lost = 0  # lines since the last one that was written
        self._cut = False  # whether that one was written in part
        try:
            self._fd: int | None = self.stream.fileno()
        except (io.UnsupportedOperation, AttributeError):  # a stream that is no file
            self._fd = None

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record, behind how many were lost."""
        if self._fd is None:
            super().emit(record)
            return
        try:
            line = self.format(record)
            if self._lost:
                line = f"{self._told_lost()}\n{line}"
            if self._write(self._fd, f"{line}\n".encode(errors="backslashreplace")):
                self._lost = 0
            else:
                self._lost += 1
        except Exception:
            self.handleError(record)

    def _told_lost(self) -> str:
        told = (
            f"{counted(self._lost, 'line')} of the log {be(self._lost)} lost: nobody read what was written, or the "
            "disk was full"
        )
        line = self.format(logging.LogRecord(__name__, logging.ERROR, __file__, 0, told, None, None))
        return f"\n{line}" if self._cut else line

    def _write(self, fd: int, data: bytes) -> bool:
        """Writes what is taken in time; False where that is not all, as on a disk that is full."""
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        while data:
            if not poll.poll(0 if self._lost else _READ_WITHIN_S * 1000):
                return False
            try:
                taken = os.write(fd, data[:_ATOMIC_BYTES])
            except OSError:
                return False
            self._cut = not data[:taken].endswith(b"\n")
            data = data[taken:]
        return True


class PlainFormatter(logging.Formatter):
    """A line a record, with the client whose call it is of, and the traceback of an error behind it.

    A message may have what a client wrote, whose breaks would look like lines of the server's own.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        line = super().formatMessage(record)
        if (client := _client()) and not hasattr(record, "fields"):  # which have it
            line += f" (client {client})"
        return line if line.isprintable() else "".join(map(_shown, line))


class JsonFormatter(logging.Formatter):
    """Time in UTC, level, logger, message, request and client, a record's own `fields`, the traceback of an error."""

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
        if client := _client():
            entry["client"] = client
        fields = getattr(record, "fields", None)
        if fields:
            entry |= {"message": entry["message"].partition(":")[0], **fields}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def _client() -> str:
    """Names the client whose call the running code works for; "" where it showed no token."""
    call = current_call()
    return "" if call is None else call.client


def _shown(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]
