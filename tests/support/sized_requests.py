"""Requests of so many items of one token each, for what schedules requests and computes nothing."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rankport.protos.priorities import Priority, own_priority
from rankport.runtime.scheduling.work import Request


@dataclass(slots=True, eq=False, kw_only=True)
class Sized(Request):
    """A request of items of one token each."""

    name: str
    left: int
    had: int = 0

    @classmethod
    def of(cls, name: str, tokens: int, priority: Priority | None = None) -> Self:
        """Makes one that is whole; of the block's class where none is given."""
        return cls(
            tokens=tokens,
            to_compute=tokens,
            submitted_s=0.0,
            timeout_s=None,
            name=name,
            left=tokens,
            priority=priority or own_priority(),
        )

    @property
    def exhausted(self) -> bool:
        return not self.left

    @property
    def finished(self) -> bool:
        return not self.left

    def answer(self, waited_s: float) -> Any:
        return None


def ones(count: int) -> NDArray[np.int64]:
    """Makes the lengths of so many items. [count]"""
    return np.ones(count, np.int64)
