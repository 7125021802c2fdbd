"""Passes over runs of requests: started here or in an instance, and their results on the way to the requests."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BackendError
from rankport.runtime.backends.contract import FloatT, Started
from rankport.runtime.scheduling.instances.pool import Instances
from rankport.runtime.scheduling.runs_by_length import RowOf, Span
from rankport.runtime.scheduling.work import Pass, PassSize, RequestT, UnderWay, on_device

Spans = Sequence[tuple[RequestT, Span]]
"""Runs of each request that a pass takes."""
Prepare = Callable[[Spans[RequestT]], Callable[[], Started[FloatT]]]
"""Makes the call of the device over some runs, whose results it gives in their order."""


def take_spans(
    operation: str, spans: Spans[RequestT], prepare: Prepare[RequestT, FloatT], instances: Instances
) -> UnderWay[RequestT] | None:
    """Starts a pass over the next runs of requests, and takes them; None where their results are recorded.

    Raises `BackendError` where it could not be started, or is done and failed, with nothing taken.
    """
    rest = _started(operation, prepare, instances, spans)
    for _, span in spans:
        span.of.take(span.count)
    return rest


def _started(
    operation: str, prepare: Prepare[RequestT, FloatT], instances: Instances, spans: Spans[RequestT]
) -> UnderWay[RequestT] | None:
    call = prepare(spans)

    def again(request: RequestT) -> Pass[RequestT]:
        ((own, span),) = (part for part in spans if part[0] is request)
        tokens = int(span.lengths.sum())
        size = PassSize(operation, span.count, tokens, span.count * int(span.lengths[-1]))
        return Pass((own,), (tokens,), partial(_started, operation, prepare, instances, [(own, span)]), size)

    return start_call(operation, call, lambda rows: _record(operation, rows, spans), instances, again)


def start_call(
    operation: str,
    call: Callable[[], Started[FloatT]],
    record: Callable[[NDArray[FloatT]], None],
    instances: Instances,
    again: Callable[[RequestT], Pass[RequestT]] | None = None,
) -> UnderWay[RequestT] | None:
    """Makes a call of the device here or in an instance, and has its results recorded; None where they are.

    Raises `BackendError` where it could not be made, or is done and failed.
    """
    if instances.side_by_side:
        future = instances.submit(lambda: on_device(operation, call().results))
        return UnderWay(lambda: record(future.result()), future, again)
    started = call()
    end = partial(_end, operation, started, record)
    if not started.done:
        return UnderWay(end)
    end()
    return None


def _end(operation: str, started: Started[FloatT], record: Callable[[NDArray[FloatT]], None]) -> None:
    record(on_device(operation, started.results))


def _record(operation: str, rows: NDArray[FloatT], spans: Spans[RequestT]) -> None:
    ends = np.cumsum([0, *(span.rows for _, span in spans)]).tolist()
    check_count(operation, len(rows), ends[-1], spans[0][1].of.row_of)
    for (_, span), (start, end) in zip(spans, pairwise(ends), strict=True):
        span.record(rows[start:end])


def check_count(operation: str, given: int, asked: int, row_of: RowOf = "run") -> None:
    """Raises `BackendError` unless there are as many results as asked for."""
    if given != asked:
        raise BackendError(
            f"{operation} gave {given} results for {asked} {row_of}s: the backend breaks its contract"
        )
