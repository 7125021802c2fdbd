"""Refusals of requests that reach no endpoint: counted, logged and named as those of endpoints are."""

import h11
from starlette.datastructures import Headers

from rankport.protos.errors import (
    ERROR_METADATA_KEY,
    InvalidRequest,
    LimitExceeded,
    RankportError,
    http_status,
)
from rankport.runtime.options import size_in_words
from rankport.runtime.server.core import Core
from rankport.runtime.server.http.answers import Answer
from rankport.runtime.server.http.dialect import openai_error
from rankport.runtime.server.observing.call import REQUEST_ID, WorkingFor

MAX_HEAD_BYTES = 64 * 2**10
_HEAD_TOO_LARGE = 431
_TLS = b"\x16\x03"  # which a greeting of TLS begins with


def refused(
    core: Core, error: RankportError, headers: Headers, *, path: str = "", status: int | None = None
) -> Answer:
    """Counts a request as one that failed, and makes what its client is told; a `path` is one that there is."""
    with WorkingFor(core.observer.begin("http", path, headers.items())) as call:
        core.admission.failed(error)
    return _told(error, status or http_status(error)).with_header(REQUEST_ID, call.request_id)


def malformed(core: Core, fault: h11.RemoteProtocolError, unread: bytes, *, in_body: bool) -> Answer:
    """Refuses what is no HTTP/1.1, of which some bytes are `unread`; within a body its request is counted already."""
    error, status = _error_of(fault, unread)
    return _told(error, status) if in_body else refused(core, error, Headers(), status=status)


def _error_of(fault: h11.RemoteProtocolError, unread: bytes) -> tuple[RankportError, int]:
    if fault.error_status_hint == _HEAD_TOO_LARGE:
        limit = size_in_words(MAX_HEAD_BYTES)
        error = LimitExceeded(
            f"the head of the request has more than {limit}: send fewer headers, or shorter ones"
        )
        return error, _HEAD_TOO_LARGE
    if unread.startswith(_TLS):
        return InvalidRequest("this port speaks no TLS: ask it by http://"), 400
    return InvalidRequest(f"the request is no HTTP/1.1: {fault}"), 400


def _told(error: RankportError, status: int) -> Answer:
    return Answer.of_json(openai_error(error, status), status, {ERROR_METADATA_KEY: type(error).__name__})
