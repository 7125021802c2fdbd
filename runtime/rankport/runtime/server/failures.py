"""Failures as callers are told them: errors of the tree, and want of memory; of another nothing but its id."""

import logging
import uuid

from rankport.protos.errors import BackendError, Overloaded, RankportError
from rankport.runtime.server.counts import wants_threads

_log = logging.getLogger(__name__)


def told(error: Exception) -> RankportError:
    """Returns the error that a caller learns of, and logs what it does not learn."""
    if isinstance(error, RankportError):
        if isinstance(error, BackendError):
            _log.error("a pass failed: %s", error, exc_info=error)
        return error
    if isinstance(error, MemoryError):  # others, and smaller requests, may fit
        _log.error("no memory for a request: %s", error)
        return Overloaded(
            "the server has no memory left for this request: retry later, or send fewer items at once; its operator "
            "bounds what it keeps by max_pending_bytes (--max-pending-bytes)"
        )
    if wants_threads(error):
        _log.error(
            "no thread for a request: the system allows this process no more (pids.max, TasksMax, ulimit -u, -v)"
        )
        return Overloaded("the server can start no thread for this request: retry later, or at another one")
    incident = uuid.uuid4().hex[:12]
    _log.error("unexpected error %s", incident, exc_info=error)
    return BackendError(f"unexpected error {incident}; the server's log has its traceback")
