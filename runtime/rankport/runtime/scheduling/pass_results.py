"""What becomes of a pass once the device is at work on it: its rows go to the requests that it was made of."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rankport.protos.errors import BackendError
from rankport.runtime.backends.contract import FloatT, Launched
from rankport.runtime.scheduling.runs_by_length import ByLength
from rankport.runtime.scheduling.work import on_device


def landing(
    operation: str, launched: Launched[FloatT], shares: Sequence[tuple[ByLength[Any], int]]
) -> Callable[[], None] | None:
    """Takes the next runs of each share, and gives what will record their rows; None where that is done already.

    Raises `BackendError` where the device is done and failed, with nothing taken.
    """
    ends = np.cumsum([count for _, count in shares])

    def land() -> None:
        rows = on_device(operation, launched.results)
        check_count(operation, len(rows), int(ends[-1]))
        for (runs, _), part in zip(shares, np.split(rows, ends[:-1]), strict=True):
            runs.record(part)

    if launched.done:
        land()
    for runs, count in shares:
        runs.take(count)
    return None if launched.done else land


def check_count(operation: str, given: int, asked: int) -> None:
    """Raises `BackendError` unless there is one result a run."""
    if given != asked:
        raise BackendError(
            f"{operation} gave {given} results for {asked} runs: the backend breaks its contract"
        )
