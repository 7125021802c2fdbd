"""`Waiting`: requests that wait for their first pass, in the order of their arrival within a class of priority.

Owns who becomes active next. Each class has places that the other cannot take: a quarter of them is left to
interactive requests, and one request in the background may be active beyond the limit, so that none waits for ever.
"""

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Generic

from rankport.protos.priorities import PRIORITIES, Priority
from rankport.runtime.scheduling.work import RequestT


class Waiting(Generic[RequestT]):
    """Queue of a worker. Its thread's own."""

    def __init__(self, max_active: int) -> None:
        self._max_active = max_active
        self._max_background = max(3 * max_active // 4, 1)
        self._by_class: dict[Priority, deque[RequestT]] = {name: deque() for name in PRIORITIES}

    def __bool__(self) -> bool:
        return any(self._by_class.values())

    def __iter__(self) -> Iterator[RequestT]:
        return chain.from_iterable(self._by_class.values())

    def add(self, request: RequestT) -> None:
        """Takes in a request."""
        self._by_class[request.priority].append(request)

    def remove(self, request: RequestT) -> None:
        """Lets go of a request that will have no pass."""
        self._by_class[request.priority].remove(request)

    def admit(self, active: list[RequestT]) -> None:
        """Moves those to the active ones that there is room for."""
        interactive, background = self._by_class["interactive"], self._by_class["background"]
        lower = sum(request.priority == "background" for request in active)
        while interactive and len(active) - min(lower, 1) < self._max_active:
            active.append(interactive.popleft())
        while background and (not lower or (lower < self._max_background and len(active) < self._max_active)):
            active.append(background.popleft())
            lower += 1
