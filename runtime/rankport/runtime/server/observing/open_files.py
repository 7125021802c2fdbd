"""Files that a process may have open, connections among them: all that the system allows, told where they end."""

import asyncio
import errno
import logging
import os
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_log = logging.getLogger(__name__)
_WANTED = 2**16  # the soft limit, often 1,024, is for programs that wait by select()
_QUIET_S = 10.0
_NO_FILE = (errno.EMFILE, errno.ENFILE)


def allow_open_files() -> None:
    """Raises the limit of open files of this process, and of those that it starts, where the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > _WANTED:
        hard = _WANTED
    if soft != resource.RLIM_INFINITY and soft < hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


class OpenFiles:
    """Teller of what nobody else tells: that no file is left for a connection, once in ten seconds.

    As a handler it hears of it from an event loop; of gRPC's own connections it has to `look`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._told_s = clock, float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Logs it, everything else as the loop does by itself. A loop tells it for each connection of its backlog."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in _NO_FILE:
            loop.default_exception_handler(context)
            return
        self._tell()

    def look(self) -> None:
        """Logs it where it is so now."""
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            if error.errno in _NO_FILE:
                self._tell()

    def _tell(self) -> None:
        now_s = self._clock()
        if now_s - self._told_s < _QUIET_S:
            return
        self._told_s = now_s
        _log.error(
            "connections wait: this process has as many files open as it may, %d: raise the limit (ulimit -n, "
            "LimitNOFILE), or lower max_connections (--max-connections)",
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        )
