"""`CallBook`: calls by what they were and how they ended, and how long their phases took."""

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass

from rankport.runtime.histogram import Histogram, HistogramCounts
from rankport.runtime.server.observing.call import Call

_GONE_KEPT = 8  # versions that were unloaded: long enough for who reads the last of their counters


@dataclass(frozen=True, slots=True)
class CallKey:
    """Calls that are counted together."""

    front: str
    method: str
    model: str  # "" where none was found
    code: str  # name of the gRPC status


class CallBook:
    """Counters since the server's start. The event loop writes, any thread reads."""

    def __init__(self) -> None:
        self._gone: list[str] = []  # models that were unloaded last
        self._ended: Counter[CallKey] = Counter()
        self._shortened: Counter[str] = Counter()
        self._seconds: dict[tuple[str, str], Histogram] = {}
        self._phases: dict[tuple[str, str], Histogram] = {}
        self._answered: dict[tuple[str, str], Histogram] = {}

    def add(self, call: Call, code: str, seconds: float) -> None:
        """Counts a call that ended."""
        self._ended[CallKey(call.front, call.method, call.model, code)] += 1
        _of(self._seconds, (call.method, call.model)).add(seconds)
        if code == "OK" and call.nbytes and not call.streams:
            _of(self._answered, (call.model, call.priority)).add(seconds)
        if call.depth is not None:
            self._shortened[call.model] += 1
        if call.tokenize_s and not call.streams:
            _of(self._phases, (call.model, "thread")).add(call.thread_s)
            _of(self._phases, (call.model, "tokenize")).add(call.tokenize_s)

    def let_go(self, model: str, served: Container[str]) -> None:
        """Notes that a version is unloaded. Its counters stay until eight more are, unless it is served again then."""
        self._gone = [*(each for each in self._gone if each != model), model]
        while len(self._gone) > _GONE_KEPT:
            oldest = self._gone.pop(0)
            if oldest not in served:
                self._forget(oldest)

    def _forget(self, model: str) -> None:
        """Drops what was counted of a model; who reads meanwhile has all of it."""
        self._ended = Counter({key: count for key, count in self._ended.items() if key.model != model})
        self._shortened = Counter({name: count for name, count in self._shortened.items() if name != model})
        self._seconds = {key: times for key, times in self._seconds.items() if key[1] != model}
        self._phases = {key: times for key, times in self._phases.items() if key[0] != model}
        self._answered = {key: times for key, times in self._answered.items() if key[0] != model}

    def ended(self) -> Mapping[CallKey, int]:
        """Counts calls."""
        return self._ended.copy()

    def shortened(self) -> Mapping[str, int]:
        """Counts the requests of which only the first items were scored, by model."""
        return self._shortened.copy()

    def seconds(self) -> Mapping[tuple[str, str], HistogramCounts]:
        """Gives the times of whole calls, by method and model."""
        return {key: histogram.snapshot() for key, histogram in [*self._seconds.items()]}

    def answered(self) -> Mapping[tuple[str, str], HistogramCounts]:
        """Gives the times of answered requests, by model and class of priority."""
        return {key: histogram.snapshot() for key, histogram in [*self._answered.items()]}

    def phases(self) -> Mapping[tuple[str, str], HistogramCounts]:
        """Gives the times of phases before the queue, by model and phase: "thread" and "tokenize"."""
        return {key: histogram.snapshot() for key, histogram in [*self._phases.items()]}


def _of(histograms: dict[tuple[str, str], Histogram], key: tuple[str, str]) -> Histogram:
    histogram = histograms.get(key)
    if histogram is None:
        histogram = histograms[key] = Histogram()
    return histogram
