"""The results of a pass on their way to the requests that it was made of."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BackendError
from rankport.runtime.backends.contract import FloatT, Started
from rankport.runtime.scheduling.runs_by_length import RowOf, RunsByLength
from rankport.runtime.scheduling.work import Wait, on_device

Shares = Sequence[tuple[RunsByLength, int]]
"""How many of the next runs of each request a pass takes."""


def take_shares(operation: str, started: Started[FloatT], shares: Shares) -> Wait | None:
    """Takes the next runs of each share, and gives the wait that records their rows; None where they are recorded.

    Raises `BackendError` where the device is done and failed, with nothing taken.
    """
    wait: Wait = _recorder(operation, started.results, shares)
    if started.done:
        wait()
    for runs, count in shares:
        runs.take(count)
    return None if started.done else wait


def _recorder(operation: str, results: Callable[[], NDArray[FloatT]], shares: Shares) -> Wait:
    ends = np.cumsum([0, *(runs.rows(count) for runs, count in shares)]).tolist()

    def wait() -> None:
        rows = on_device(operation, results)
        check_count(operation, len(rows), ends[-1], shares[0][0].row_of)
        for (runs, count), start, end in zip(shares, ends[:-1], ends[1:], strict=True):
            runs.record(rows[start:end], count)

    return wait


def check_count(operation: str, given: int, asked: int, row_of: RowOf = "run") -> None:
    """Raises `BackendError` unless there are as many results as asked for."""
    if given != asked:
        raise BackendError(
            f"{operation} gave {given} results for {asked} {row_of}s: the backend breaks its contract"
        )
