"""`Call`: one call of a server as it is seen from outside, and which call the running code works for."""

import random
import re
import time
from collections.abc import Iterable
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Literal

from rankport.protos.errors import InvalidRequest, PermissionDenied
from rankport.protos.priorities import PRIORITY_KEY, Priority, checked_priority
from rankport.protos.types import Usage
from rankport.protos.versions import MODEL_KEY
from rankport.runtime.server.observing.tracing import CallSpan
from rankport.runtime.server.security.quota import Quota

Front = Literal["grpc", "http"]
REQUEST_ID = "x-request-id"
"""Metadata or header by which a client names its request, and a server says the name."""
_NAMED = re.compile(r"[\x21-\x7e]{1,128}")
_READ = frozenset(
    {REQUEST_ID, PRIORITY_KEY, MODEL_KEY, "authorization", "x-timeout-s", "content-type", "content-encoding"}
)


def read_headers(pairs: Iterable[tuple[str, str]]) -> tuple[dict[str, str], str]:
    """Reads metadata or headers, by their names in lower case, to the first value of each.

    Gives the name of one beside it that the server reads and that says two things; "" if there is none.
    """
    headers: dict[str, str] = {}
    twice = ""
    for name, value in pairs:
        if headers.setdefault(name, value) != value and name in _READ:
            twice = name
    return headers, twice


@dataclass(slots=True, eq=False)
class Call:
    """A call in progress: what it is, and how long its phases took so far. Its server's event loop writes it."""

    front: Front
    method: str  # "Scoring.Score", or a path of HTTP
    request_id: str
    streams: bool = False  # many messages: it lasts as long as its client likes
    span: CallSpan | None = None
    said_twice: str = ""  # name of a header that its client gave two values
    said_priority: str | None = None  # as its client wrote it, as is the next
    said_model: str = ""  # "": it may be any
    priority: Priority = "interactive"
    client: str = ""  # whose token it has
    quota: Quota | None = None  # of that client
    only_priority: Priority | None = None  # class that its requests may have; None: any
    model: str = ""  # that was found for it: never what a client wrote
    asked: str = ""  # a name of the server's, by which it was found
    does: str = ""  # what the model was found for: "generates"
    reasons: tuple[str, ...] = ()  # why texts that it wrote end
    nbytes: int = 0  # of its messages
    thread_s: float = 0.0  # waiting for a thread that reads it
    tokenize_s: float = 0.0  # reading it: message, texts, store
    usage: Usage | None = None  # as the answer tells it
    verb: str = ""  # of HTTP: POST
    http_status: int = 200  # that its client is told, over HTTP
    depth: int | None = None  # items that were scored, where others were left out under pressure
    started_s: float = field(default_factory=time.perf_counter)

    def take_priority(self, usual: Priority) -> None:
        """Takes the class that its client said, else the one that is its own or usual.

        Raises:
            InvalidRequest: there is no such class, or a header that is read says two things.
            PermissionDenied: its client may not have it.
        """
        if self.said_twice:
            raise InvalidRequest(f"{self.said_twice} is given twice, with two values: give it once")
        said, only = self.said_priority, self.only_priority
        self.priority = (only or usual) if said is None else checked_priority(said, PRIORITY_KEY)
        if only not in (None, self.priority):
            raise PermissionDenied(
                f"{PRIORITY_KEY} is {self.priority!r}: requests of client {self.client} are {only} alone; leave it out"
            )

    @property
    def elapsed_s(self) -> float:
        """Seconds since it came."""
        return time.perf_counter() - self.started_s


_CURRENT: ContextVar[Call | None] = ContextVar("rankport_call", default=None)


def current_call() -> Call | None:
    """Returns the call that the running code works for, if a front said one."""
    return _CURRENT.get()


def said_model() -> str:
    """Returns the name that the current call's metadata or headers have for its model; "" where they have none."""
    call = _CURRENT.get()
    return "" if call is None else call.said_model


class WorkingFor:
    """Context in which the running code works for a call. Written out: it is entered for every call."""

    __slots__ = ("_call", "_token")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._token: Token[Call | None] | None = None

    def __enter__(self) -> Call:
        self._token = _CURRENT.set(self._call)
        return self._call

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        assert self._token is not None, "entered"
        _CURRENT.reset(self._token)


def request_id_of(given: str | None) -> str:
    """Takes the client's name of its request, up to 128 printable characters of ASCII, or makes one."""
    if given is not None and _NAMED.fullmatch(given):
        return given
    return f"{random.getrandbits(64):016x}"
