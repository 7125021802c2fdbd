"""`Readiness`: which models of a server can take requests now, and why others cannot.

Sees what a model cannot tell of itself: a pass that does not end, and a server that only refuses.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from rankport.runtime.kinds.capabilities import ModelCounts
from rankport.runtime.server.observing.config import ObservingConfig

_log = logging.getLogger(__name__)
HOPELESS_LOOKS = 10
"""Looks in a row that it takes: at the first ones after a machine was suspended a pass that goes on is as old."""
_PAUSE_S = 2.0  # without a refusal, after which a server is saturated no longer


class Readiness:
    """State of health, looked at now and then. The event loop looks, any thread reads."""

    def __init__(
        self,
        config: ObservingConfig,
        overloads: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes how many requests were refused for overload since the start."""
        self._config, self._overloads, self._clock = config, overloads, clock
        self._hopeless_looks = 0  # in a row at which an engine was of no use any more
        self.saturated_s = (
            0.0  # for which requests were refused for overload without a pause, at the last look
        )
        self.reasons: Mapping[str, str] = {}  # by model that cannot take requests, "" for all of them
        self._refused = 0
        self._first_s: float | None = None  # time of the first refusal since there was a pause
        self._last_s = 0.0

    def look(
        self,
        alive: Mapping[str, bool],
        stands_for: Mapping[str, Sequence[str]],
        counts: Mapping[str, ModelCounts],
    ) -> Mapping[str, bool]:
        """Says of each name whether it can take requests, and logs what changed.

        Names are `alive` and stand for versions, whose counters these are.
        """
        engines = [engine for counted in counts.values() for engine in counted.engines.values()]
        hopeless = any(engine.stopped or self._is_hopeless(engine.silent_s) for engine in engines)
        self._hopeless_looks = self._hopeless_looks + 1 if hopeless else 0
        reasons = {
            name: _why_dead(stands_for.get(name, ()), counts) for name, lives in alive.items() if not lives
        }
        for name, counted in counts.items():
            stuck = self._stuck(counted)
            if stuck is not None:
                reasons.setdefault(name, stuck)
        self.saturated_s = self._refusing_s()
        if self._config.saturated_s and self.saturated_s >= self._config.saturated_s:
            reasons[""] = "refuses requests for overload without a pause"
        self._tell(reasons)
        self.reasons = reasons
        return self.ready(alive, stands_for)

    @property
    def hopeless(self) -> bool:
        """Says whether an engine has stopped, or a pass will never end, so that nothing but a new process helps.

        Any thread may ask.
        """
        return self._hopeless_looks >= HOPELESS_LOOKS

    def ready(self, alive: Mapping[str, bool], stands_for: Mapping[str, Sequence[str]]) -> Mapping[str, bool]:
        """Says of each name whether it can take requests, as `look` saw it last; those not alive are seen at once."""
        return {
            name: lives and not self.reasons.keys() & {"", name, *stands_for.get(name, ())}
            for name, lives in alive.items()
        }

    def _refusing_s(self) -> float:
        now_s, refused = self._clock(), self._overloads()
        if refused > self._refused:
            self._first_s = now_s if self._first_s is None else self._first_s
            self._refused, self._last_s = refused, now_s
        elif now_s - self._last_s >= _PAUSE_S:
            self._first_s = None
        return 0.0 if self._first_s is None else now_s - self._first_s

    def _is_hopeless(self, silent_s: float) -> bool:
        return 0 < self._config.hopeless_pass_s <= silent_s

    def _stuck(self, counts: ModelCounts) -> str | None:
        limit_s = self._config.stuck_pass_s
        for on, engine in counts.engines.items():
            if limit_s and engine.silent_s >= limit_s and not engine.away:
                return f"is stuck on {on} in {engine.doing} for over {limit_s:g} s (stuck_pass_s)"
        return None

    def _tell(self, reasons: Mapping[str, str]) -> None:
        for name, reason in reasons.items():
            if self.reasons.get(name) != reason:
                _log.error(
                    "%s %s: its health is NOT_SERVING", f"model {name}" if name else "the server", reason
                )
        for name in self.reasons.keys() - reasons.keys():
            _log.warning("%s is well again", f"model {name}" if name else "the server")


def _why_dead(versions: Sequence[str], counts: Mapping[str, ModelCounts]) -> str:
    """Tells a model that has to be loaded again from one that waits, for its engine's process or for its store."""
    engines = [engine for name in versions if name in counts for engine in counts[name].engines.values()]
    if any(engine.away for engine in engines):
        return "waits for its engine's process, which has ended and is started again"
    if any(engine.stopped for engine in engines):
        return "has stopped, as the log said: load it again, or restart the server"
    return "cannot read its token store, or its files: a request for it says why"
