"""Record of what happened last: how long the requests answered last took, and what went wrong on the server's side."""

import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from rankport.protos.errors import BackendError, BundleError, StoreError

_ANSWERS, _FAILURES = 1000, 10
_OURS = (BackendError, BundleError, StoreError)


@dataclass(frozen=True, slots=True)
class Failure:
    """Failure that was not the caller's fault."""

    unix_s: float
    name: str  # of the error's class
    message: str


class Recent:
    """The last 1,000 answers' times and the last 10 failures. Written on the event loop."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_ANSWERS)
        self._failures: deque[Failure] = deque(maxlen=_FAILURES)

    def answered(self, seconds: float) -> None:
        """Notes how long a request took."""
        self._seconds.append(seconds)

    def failed(self, error: Exception) -> None:
        """Notes a failure as its caller is told it, unless it is the caller's fault."""
        if isinstance(error, _OURS):
            self._failures.append(Failure(time.time(), type(error).__name__, str(error)[:300]))

    def failures(self) -> tuple[Failure, ...]:
        """Returns the failures, the last one first."""
        return tuple(reversed(self._failures))

    def seconds(self, *percentiles: float) -> tuple[float, ...]:
        """Computes percentiles of the times; none if nothing was answered yet."""
        if not self._seconds:
            return ()
        return tuple(np.percentile(np.array(self._seconds), percentiles).tolist())
