"""`EngineModel`: what every loaded model is by its engines: whether it lives and has room, and its end."""

from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rankport.protos.priorities import Priority
from rankport.protos.processes.own_process import StaysInProcess


class Engines(Protocol):
    """Engines of a model: `Replicas`, or parts that each have some."""

    @property
    def alive(self) -> bool: ...

    def check_room(self, timeout_s: float | None, priority: Priority) -> None: ...

    def close(self, grace_s: float, /) -> None: ...


class EngineModel(StaysInProcess):
    """Base of a loaded model. A context manager."""

    def __init__(self, engines: Engines, on_close: Callable[[], None] = lambda: None) -> None:
        """Takes the engines over; closes them, then calls `on_close`."""
        self._held = engines
        self._on_close = on_close

    @property
    def alive(self) -> bool:
        """False once it is closed, its device lost, or stopped on a bug: it answers nothing any more."""
        return self._held.alive

    def check_room(self, timeout_s: float | None, priority: Priority) -> None:
        """Raises `Overloaded` where its engines would refuse any request like those of late."""
        self._held.check_room(timeout_s, priority)

    def close(self, grace_s: float = 0.0) -> None:
        """Lets accepted requests finish for `grace_s` seconds, fails the rest, frees everything."""
        self._held.close(grace_s)
        self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
