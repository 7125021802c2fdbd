"""Limits of the queue: `Overloaded` where too many requests or tokens wait, `LimitExceeded` for one that is too large.

Requests in the background have half of the room: however many there are, interactive ones are taken in. How long a
request waits is limited by its caller's timeout, and by the server where it says so: what would take longer is not
taken in, as `backlog` estimates it, and `worker` drops those whose time is over.
"""

from rankport.protos.errors import LimitExceeded, Overloaded
from rankport.protos.priorities import PRIORITIES
from rankport.protos.wording import counted
from rankport.runtime.config import EngineConfig
from rankport.runtime.scheduling.backlog import Backlog
from rankport.runtime.scheduling.counts import Queue, Room
from rankport.runtime.scheduling.work import Request

_BACKGROUND_PART = 2  # of the room, one such part is the background's


class QueueLimit:
    """Requests of a worker that were accepted and not started. Not thread-safe: the worker's lock guards it."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._rooms = dict.fromkeys(PRIORITIES, Room())
        self._backlog = Backlog(config)

    def queue(self, active_requests: int) -> Queue:
        """Counts what waits, and what takes part in passes; any thread may ask."""
        taken, background = self._taken(), self._rooms["background"]
        return Queue(taken.requests, taken.tokens, active_requests, background)

    def enter(self, request: Request) -> None:
        """Takes in a request. Raises `Overloaded` if there is no room; one alone of its class always has.

        Raises it as well if those before it will take longer than the rest of its timeout, or than a request may wait.

        Raises `LimitExceeded` for one of more tokens than a request may have.
        """
        most = self._config.max_request_tokens
        if most is not None and request.tokens > most:
            raise LimitExceeded(
                f"the request has {counted(request.tokens, 'token')}, the limit is {most} (max_request_tokens): "
                "send fewer items at once"
            )
        self._check_room(request)
        self._backlog.check(request.tokens, request.left_s, request.priority)
        self._backlog.enter(request.tokens, request.priority)
        self._rooms[request.priority] = self._rooms[request.priority].plus(1, request.tokens)

    def leave(self, request: Request) -> None:
        """Notes that such a request waits no longer."""
        self._rooms[request.priority] = self._rooms[request.priority].plus(-1, -request.tokens)

    def end(self, request: Request, *, answered: bool, busy_s: float) -> None:
        """Notes that such a request is done with, when the engine has been busy for `busy_s` in all."""
        self._backlog.leave(request.tokens, request.priority, answered=answered, busy_s=busy_s)

    def _check_room(self, request: Request) -> None:
        requests, tokens = self._config.max_queued_requests, self._config.max_queued_tokens
        own, behind = self._rooms[request.priority], ""
        taken = self._taken()
        if request.priority == "background":
            half = max(requests // _BACKGROUND_PART, 1), max(tokens // _BACKGROUND_PART, 1)
            if _is_full(own, own, request.tokens, *half):
                taken, (requests, tokens), behind = own, half, ", half of it, for requests in the background"
        if _is_full(own, taken, request.tokens, requests, tokens):
            raise Overloaded(
                f"the queue is full: {counted(taken.requests, 'request')} (max_queued_requests {requests}{behind}) and "
                f"{counted(taken.tokens, 'token')} (max_queued_tokens {tokens}) wait, and this request has "
                f"{counted(request.tokens, 'token')}: retry later, or raise the limit"
            )

    def _taken(self) -> Room:
        interactive, background = (self._rooms[name] for name in PRIORITIES)
        return interactive.plus(background.requests, background.tokens)


def _is_full(own: Room, taken: Room, tokens: int, most_requests: int, most_tokens: int) -> bool:
    """Says whether a class that waits with `own` has no room for so many tokens more, beside what is taken."""
    if taken.requests >= most_requests:
        return True
    return bool(own.requests) and taken.tokens + tokens > most_tokens
