"""Limits of the queue: `Overloaded` where too many requests or tokens wait, `LimitExceeded` for one that is too large.

Requests in the background have half of the room: however many there are, interactive ones are taken in. How long a
request waits is limited by its caller's timeout, and by the server where it says so: what would take longer is not
taken in, as `backlog` estimates it, and `worker` drops those whose time is over.

What all this says of a request that nobody has read yet can be asked as well, also by another process, which is told
the numbers that it depends on.
"""

from collections import deque
from collections.abc import Callable, Sequence

from rankport.protos.errors import LimitExceeded, Overloaded
from rankport.protos.priorities import PRIORITIES, Priority
from rankport.protos.wording import counted
from rankport.runtime.config import EngineConfig
from rankport.runtime.scheduling.counts import Queue, Room
from rankport.runtime.scheduling.queue.backlog import Backlog
from rankport.runtime.scheduling.work import Request

_BACKGROUND_PART = 2  # of the room, one such part is the background's
_LATELY = 64  # requests of a class whose sizes are remembered

QueueNumbers = tuple[float, ...]
"""Numbers that a verdict depends on: `QueueLimit.numbers`."""
Watcher = Callable[[QueueNumbers], None]


class QueueLimit:
    """Requests of a worker that were accepted and not started. Not thread-safe: the worker's lock guards it."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._rooms = dict.fromkeys(PRIORITIES, Room())
        self._backlog = Backlog(config)
        self._sizes = {name: deque[int](maxlen=_LATELY) for name in PRIORITIES}  # tokens of the last requests
        self._least = dict.fromkeys(PRIORITIES, 0)  # of these; 0: nothing is known
        self._watchers: list[Watcher] = []

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
        sizes = self._sizes[request.priority]
        sizes.append(request.tokens)
        self._least[request.priority] = min(sizes)
        try:
            self._check(request.tokens, request.left_s, request.priority, "this request has")
        except Overloaded:
            self._tell()
            raise
        self._backlog.enter(request.tokens, request.priority)
        self._add(request, 1)

    def check_unread(self, left_s: float | None, priority: Priority) -> None:
        """Raises `Overloaded` where `enter` would for a request as small as the smallest of late; any thread may ask.

        Says nothing while it knows no sizes.
        """
        if least := self._least[priority]:
            self._check(least, left_s, priority, "the smallest of late had")

    def leave(self, request: Request) -> None:
        """Notes that such a request waits no longer."""
        self._add(request, -1)

    def end(self, request: Request, *, answered: bool, busy_s: float) -> None:
        """Notes that such a request is done with, when instances have been at work for `busy_s` in all."""
        self._backlog.leave(request.tokens, request.priority, answered=answered, busy_s=busy_s)
        self._tell()

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Has the numbers told now and whenever they change, until the function that it returns is called."""
        self._watchers.append(watcher)
        watcher(self.numbers())
        return lambda: self._watchers.remove(watcher)

    def numbers(self) -> QueueNumbers:
        """Gives the numbers that `check_unread` depends on, beside the settings."""
        rooms = (number for room in self._rooms.values() for number in (room.requests, room.tokens))
        return (*rooms, *self._least.values(), *self._backlog.numbers())

    def take(self, numbers: Sequence[float]) -> None:
        """Takes over what another queue of the same settings said of itself; there may be more behind it."""
        names, (rooms, least) = tuple(PRIORITIES), (numbers[:4], numbers[4:6])
        self._rooms = {name: Room(*map(int, rooms[2 * i : 2 * i + 2])) for i, name in enumerate(names)}
        self._least = dict(zip(names, map(int, least), strict=True))
        self._backlog.take(numbers[6:])

    def _add(self, request: Request, sign: int) -> None:
        self._rooms[request.priority] = self._rooms[request.priority].plus(sign, sign * request.tokens)
        self._tell()

    def _tell(self) -> None:
        for watcher in tuple(self._watchers):
            watcher(self.numbers())

    def _check(self, tokens: int, left_s: float | None, priority: Priority, whose: str) -> None:
        self._check_room(tokens, priority, whose)
        self._backlog.check(tokens, left_s, priority)

    def _check_room(self, tokens: int, priority: Priority, whose: str) -> None:
        most_requests, most_tokens = self._config.max_queued_requests, self._config.max_queued_tokens
        own, behind = self._rooms[priority], ""
        taken = self._taken()
        if priority == "background":
            half = max(most_requests // _BACKGROUND_PART, 1), max(most_tokens // _BACKGROUND_PART, 1)
            if _is_full(own, own, tokens, *half):
                taken, (most_requests, most_tokens) = own, half
                behind = ", half of it, for requests in the background"
        if _is_full(own, taken, tokens, most_requests, most_tokens):
            raise Overloaded(
                f"the queue is full: {counted(taken.requests, 'request')} (max_queued_requests "
                f"{most_requests}{behind}) and {counted(taken.tokens, 'token')} (max_queued_tokens {most_tokens}) "
                f"wait, and {whose} {counted(tokens, 'token')}: retry later, or raise the limit"
            )

    def _taken(self) -> Room:
        interactive, background = (self._rooms[name] for name in PRIORITIES)
        return interactive.plus(background.requests, background.tokens)


def _is_full(own: Room, taken: Room, tokens: int, most_requests: int, most_tokens: int) -> bool:
    """Says whether a class that waits with `own` has no room for so many tokens more, beside what is taken."""
    if taken.requests >= most_requests:
        return True
    return bool(own.requests) and taken.tokens + tokens > most_tokens
