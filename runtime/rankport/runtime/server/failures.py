"""Failures as callers are told them: errors of the tree as they are, of an unexpected one nothing but its id."""

import logging
import uuid

from rankport.protos.errors import BackendError, RankportError

_log = logging.getLogger(__name__)


def told(error: Exception) -> RankportError:
    """Returns the error that a caller learns of, and logs what it does not learn."""
    if isinstance(error, RankportError):
        if isinstance(error, BackendError):
            _log.error("a pass failed: %s", error, exc_info=error)
        return error
    incident = uuid.uuid4().hex[:12]
    _log.error("unexpected error %s", incident, exc_info=error)
    return BackendError(f"unexpected error {incident}; the server's log has its traceback")
