"""`PhaseTimes`: when a request passed from phase to phase on its way to a model and back."""

import time
from concurrent.futures import Future
from typing import Any

from rankport.protos.classes import ClassifyResult
from rankport.protos.generation import GenerateResult, SearchResult
from rankport.protos.tagging import TagResult
from rankport.protos.types import ScoreResult, Usage
from rankport.runtime.server.observing.call import Call

_TELL_USAGE = (ScoreResult, ClassifyResult, TagResult)


class PhaseTimes:
    """Times of one request, each noted by the thread that has it then."""

    __slots__ = ("_begun_s", "_made_s", "_submitted_s")

    def __init__(self) -> None:
        self._made_s = self._begun_s = self._submitted_s = time.perf_counter()

    def begun(self) -> None:
        """Notes that a thread reads it."""
        self._begun_s = self._submitted_s = time.perf_counter()

    def submitted(self) -> None:
        """Notes that it is read, and in an engine's queue."""
        self._submitted_s = time.perf_counter()

    def note(self, call: Call, done: "Future[Any]") -> None:
        """Adds the phases to a call, now that its answer is there."""
        thread_s, tokenize_s = self._begun_s - self._made_s, self._submitted_s - self._begun_s
        call.thread_s += thread_s
        call.tokenize_s += tokenize_s
        result = None if done.cancelled() or done.exception() is not None else done.result()
        usage = _usage_of(result)
        if usage is not None:  # a call may be several requests
            call.usage = usage if call.usage is None else _sum(call.usage, usage)
        if isinstance(result, ScoreResult) and result.depth is not None:
            call.depth = result.depth
        if isinstance(result, GenerateResult):
            call.reasons += (result.finish_reason,)
        if call.span is not None:
            engine_s = time.perf_counter() - self._submitted_s
            call.span.phase("thread", thread_s, tokenize_s + engine_s)
            call.span.phase("tokenize", tokenize_s, engine_s)
            times = (
                {}
                if usage is None
                else {"rankport.queue_s": usage.queue_s, "rankport.compute_s": usage.compute_s}
            )
            call.span.phase("engine", engine_s, **times)


def _usage_of(result: object) -> Usage | None:
    """Tells what a request cost; of a text that is written the prompt is its prefix, what is written its item."""
    if isinstance(result, _TELL_USAGE):
        return result.usage
    if not isinstance(result, GenerateResult | SearchResult):
        return None
    usage = result.usage
    return Usage(
        prefix_tokens_cached=usage.prompt_tokens_cached,
        prefix_tokens_computed=usage.prompt_tokens_computed,
        item_tokens=usage.generated_tokens,
        tokenize_s=usage.tokenize_s,
        queue_s=usage.queue_s,
        compute_s=usage.compute_s,
    )


def _sum(first: Usage, second: Usage) -> Usage:
    names = Usage.__slots__
    return Usage(**{name: getattr(first, name) + getattr(second, name) for name in names})
