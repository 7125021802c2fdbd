"""Ids of requests: named by the application, for the calls that any client makes meanwhile."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rankport.protos.errors import InvalidRequest

REQUEST_ID_KEY = "x-request-id"
_NAMED = re.compile(r"[\x21-\x7e]{1,128}")
_CURRENT: ContextVar[str] = ContextVar("rankport_request_id", default="")


@contextmanager
def request_id(id: str) -> Iterator[None]:
    """Gives the calls of the block this id: an alias with shares goes by it, and the server's logs and traces have it.

    >>> with request_id("42"):
    ...     client.score("nurse", items)

    Holds for the thread or task, as context variables do. Raises `InvalidRequest` for what is no 1 to 128 printable
    characters of ASCII, without spaces.
    """
    if not isinstance(id, str) or not _NAMED.fullmatch(id):
        raise InvalidRequest(f"id is {id!r:.60}: give 1 to 128 printable characters of ASCII, without spaces")
    token = _CURRENT.set(id)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_request_id() -> str:
    """Returns the id of the block that the running code is in, "" outside of any."""
    return _CURRENT.get()
