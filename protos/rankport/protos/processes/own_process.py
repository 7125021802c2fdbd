"""`OwnProcess`: the process that made an object whose threads, locks or connections a fork does not bring along.

`StaysInProcess` is such an object that says so to who would send it to another one.
"""

import os
from collections.abc import Iterable, Iterator
from typing import NoReturn, SupportsIndex, TypeVar

from rankport.protos.errors import Unavailable

T = TypeVar("T")
_KEPT: list[object] = []
"""Iterators that a forked child went on with: deleted there, they would wake, or wait for, threads that are not."""


class _Forks:
    """Number of forks between the interpreter's start and this process: asked for every future, as a pid is a call."""

    count = 0

    @classmethod
    def add(cls) -> None:
        """Counts one; runs in the child."""
        cls.count += 1


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_Forks.add)


class OwnProcess:
    """The process that it is made in."""

    __slots__ = ("_forks",)

    def __init__(self) -> None:
        self._forks = _Forks.count

    @property
    def forked(self) -> bool:
        """True in a child that `fork()` made of that process."""
        return _Forks.count != self._forks

    def check(self, made: str, remedy: str) -> None:
        """Raises `Unavailable` in such a child, where the object would wait for ever for what is not there.

        `made` says what happened to the object before the fork, `remedy` what to do in the child.
        """
        if self.forked:
            error = Unavailable(
                f"{made} before a fork(), which copies no threads: {remedy} in the child process, or start "
                "processes by 'spawn'"
            )
            error.retry_after_s = -1.0
            raise error

    def steps(self, steps: Iterable[T], made: str, remedy: str) -> Iterator[T]:
        """Yields what is waited for step by step. Raises as `check` where that is gone on with in such a child."""
        left = iter(steps)
        while True:
            if self.forked:
                _KEPT.append(left)
            self.check(made, remedy)
            try:
                step = next(left)
            except StopIteration:
                return
            yield step


class StaysInProcess:
    """Base of what threads, locks or connections hold in the process that made it: neither pickled nor copied."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Raises TypeError, which pickle and copy pass on, as spawned processes, Ray and Spark do."""
        raise TypeError(
            f"{type(self).__name__} is not sent to another process, and not copied: it has threads, locks or "
            "connections of this one; make it there"
        )
