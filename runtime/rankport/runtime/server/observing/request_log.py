"""`RequestLog`: a line for some requests and for slow ones. Says what a request cost, never what it said."""

import logging
import random
import time
from collections.abc import Callable

from rankport.runtime.server.observing.call import Call
from rankport.runtime.server.observing.config import ObservingConfig

_log = logging.getLogger("rankport.requests")
_SLOW_LINES_S = 10  # lines about slow requests in a second: when all are slow, a few tell it


class RequestLog:
    """Writes the lines of a server. Lives on its event loop."""

    def __init__(
        self,
        config: ObservingConfig,
        *,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share, self._slow_s = config.log_requests, config.slow_request_s
        self._draw, self._clock = draw, clock
        self._second, self._lines, self._left_out = 0, 0, 0

    def write(self, call: Call, code: str, seconds: float) -> None:
        """Writes the line of a call that ended, if it gets one."""
        if self._slow_s and seconds >= self._slow_s and not call.streams:
            if self._has_room():
                _write(logging.WARNING, "slow request", call, code, seconds)
        elif self._share and self._draw() < self._share:
            _write(logging.INFO, "request", call, code, seconds)

    def _has_room(self) -> bool:
        second = int(self._clock())
        if second != self._second:
            if self._left_out:
                _log.warning("%d more slow requests had no line", self._left_out)
            self._second, self._lines, self._left_out = second, 0, 0
        self._lines += 1
        self._left_out += self._lines > _SLOW_LINES_S
        return self._lines <= _SLOW_LINES_S


def _write(level: int, what: str, call: Call, code: str, seconds: float) -> None:
    facts = facts_of(call, code, seconds)
    words = " ".join(f"{name}={value}" for name, value in facts.items())
    _log.log(level, "%s: %s", what, words, extra={"fields": facts})


def facts_of(call: Call, code: str, seconds: float) -> dict[str, str | int | float]:
    """Lists what a line says of a call. Times are in milliseconds."""
    facts: dict[str, str | int | float] = {
        "request_id": call.request_id,
        "front": call.front,
        "method": call.method,
        "model": call.model,
        "code": code,
        "ms": _ms(seconds),
        "thread_ms": _ms(call.thread_s),
        "tokenize_ms": _ms(call.tokenize_s),
        "bytes": call.nbytes,
    }
    if call.priority != "interactive":
        facts["priority"] = call.priority
    if call.client:
        facts["client"] = call.client
    if call.usage is not None:
        facts |= {
            "queue_ms": _ms(call.usage.queue_s),
            "compute_ms": _ms(call.usage.compute_s),
            "prefix_tokens_cached": call.usage.prefix_tokens_cached,
            "prefix_tokens_computed": call.usage.prefix_tokens_computed,
            "item_tokens": call.usage.item_tokens,
        }
    if call.depth is not None:
        facts["depth"] = call.depth
    if call.span is not None:
        facts["trace_id"] = call.span.trace_id
    return facts


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
