"""Callers of a server in several processes: each sends its next request when the last is answered."""

import itertools
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.workload.queries import random_prefix, random_query
from benchmarks.gpu.workload.shapes import ModelShape, RequestShape
from rankport.protos.types import ItemStatus
from rankport.sdk import Client

_TIMEOUT_S = 20.0
_ITEM_SETS = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """One request, answered or failed."""

    ended_s: float  # on the monotonic clock, which processes of a machine share
    latency_s: float
    error: str  # "" if every item has a score
    queue_s: float
    compute_s: float


@dataclass(frozen=True, slots=True)
class Step:
    """What callers are to do, and when; times on the monotonic clock."""

    model: ModelShape
    request: RequestShape
    callers: int  # of one process
    begin_s: float
    end_s: float
    cached: bool  # each caller has one prefix for all its requests


class LoadGenerator:
    """Processes with a connection each."""

    def __init__(self, address: str, processes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._processes = processes
        self._pool = ProcessPoolExecutor(processes, context, initializer=_connect, initargs=(address,))
        # All of them at once, so that each has one; the interpreter's start is no part of a step.
        begin = time.monotonic() + 0.5
        list(self._pool.map(_wait_until, [begin] * processes))

    def run(
        self,
        model: ModelShape,
        request: RequestShape,
        callers: int,
        seconds: float,
        *,
        cached: bool = False,
    ) -> tuple[list[Answer], float]:
        """All answers of so many callers over so many seconds, the last ones waited for, and when those ended."""
        processes = min(callers, self._processes)
        shares = [callers // processes + (index < callers % processes) for index in range(processes)]
        begin = time.monotonic() + 0.2
        steps = [Step(model, request, share, begin, begin + seconds, cached) for share in shares]
        return list(itertools.chain.from_iterable(self._pool.map(_run, steps))), begin + seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)


def quantile(values: Sequence[float], share: float) -> float:
    """NaN without values."""
    return float(np.quantile(values, share)) if values else float("nan")


def errors_of(answers: Sequence[Answer]) -> dict[str, int]:
    """Failures by what they say."""
    return dict(Counter(answer.error for answer in answers if answer.error))


_state = threading.local()  # of a process's main thread: its client


def _connect(address: str) -> None:
    _state.client = Client(address, timeout_s=_TIMEOUT_S)


def _wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _run(step: Step) -> list[Answer]:
    client: Client = _state.client
    items = [list(random_query(step.model, step.request, seed).items) for seed in range(_ITEM_SETS)]

    def caller(index: int) -> list[Answer]:
        rng = np.random.default_rng()  # prefixes that no other caller has
        prefix = random_prefix(step.model, step.request, rng)
        answers: list[Answer] = []
        _wait_until(step.begin_s)
        while time.monotonic() < step.end_s:
            if not step.cached:
                prefix = random_prefix(step.model, step.request, rng)
            answers.append(_call(client, prefix.tolist(), items[(index + len(answers)) % _ITEM_SETS]))
            if answers[-1].error:
                time.sleep(0.01)  # a server that refuses is not to be drowned
        return answers

    with ThreadPoolExecutor(step.callers) as pool:
        return list(itertools.chain.from_iterable(pool.map(caller, range(step.callers))))


def _call(client: Client, prefix: list[int], items: list[NDArray[Any]]) -> Answer:
    begun = time.monotonic()
    error, queue_s, compute_s = "", 0.0, 0.0
    try:
        result = client.score(prefix, items)
        bad = Counter(str(status) for status in result.status if status is not ItemStatus.OK)
        error = ", ".join(f"items {status}" for status in sorted(bad))
        if len(result.scores) != len(items) or not np.isfinite(result.scores).all():
            error = error or "scores are missing"
        queue_s, compute_s = result.usage.queue_s, result.usage.compute_s
    except Exception as failure:  # counted, by its kind, whatever it is
        error = f"{type(failure).__name__}: {str(failure)[:120]}"
    ended = time.monotonic()
    return Answer(ended, ended - begun, error, queue_s, compute_s)
