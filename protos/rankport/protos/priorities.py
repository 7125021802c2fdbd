"""Priority classes of requests: said for all that the running code asks of a model, in process or of a server.

Owns the names and who says them; what they mean to a queue is the business of `runtime.scheduling`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Literal, get_args

from rankport.protos.errors import InvalidRequest

Priority = Literal["interactive", "background"]
"""Class of a request: somebody waits for its answer, or it takes what such requests leave."""

PRIORITIES: tuple[Priority, ...] = get_args(Priority)
PRIORITY_KEY = "x-priority"
"""Metadata of gRPC, or header of HTTP, that says a request's class."""

_CURRENT: ContextVar[Priority | None] = ContextVar("rankport_priority", default=None)


def checked_priority(name: object, where: str = "priority") -> Priority:
    """Takes the name of a class. Raises `InvalidRequest` for any other."""
    if name not in PRIORITIES:
        raise InvalidRequest(f"{where} is {name!r:.60}: it must be one of {', '.join(PRIORITIES)}")
    return name


@contextmanager
def priority(name: Priority) -> Iterator[None]:
    """Gives the requests of the block this class, those of a `Ranker` in process and of any client alike.

    >>> with priority("background"):
    ...     client.score("nurse", items)

    Holds for the thread or task, as context variables do. Raises `InvalidRequest` for a class that there is not.
    """
    token = _CURRENT.set(checked_priority(name))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def said_priority(name: Priority | None) -> AbstractContextManager[None]:
    """Gives the requests of the block a call's own class; without one that of the running code stays."""
    return nullcontext() if name is None else priority(name)


def current_priority() -> Priority | None:
    """Returns the class that the running code's requests have; None where nobody said one."""
    return _CURRENT.get()


def own_priority() -> Priority:
    """Returns the class of a request that is made now: interactive where nobody said one."""
    return _CURRENT.get() or "interactive"
