"""Metrics of a server as Prometheus reads them: made of its counters when they are asked for, none kept meanwhile.

Needs prometheus-client, of the extra `server`.
"""

from collections.abc import Callable, Iterable, Iterator
from importlib import metadata

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import HistogramMetricFamily as Histogram
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from rankport.runtime.server.observing.book import CallBook
from rankport.runtime.server.observing.model_metrics import add_histogram, model_metrics
from rankport.runtime.server.observing.state import ServerState

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""Type of the page."""


class ServerMetrics(Collector):
    """The metrics of one server, and of its process. Any thread may ask for the page."""

    def __init__(self, book: CallBook, state: Callable[[], ServerState]) -> None:
        """Takes the calls, and what gives the server's state."""
        self._book, self._state = book, state
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def page(self) -> bytes:
        """Writes all metrics in Prometheus' text format, of `CONTENT_TYPE`."""
        return generate_latest(self.registry)

    def describe(self) -> Iterable[Metric]:
        """Names nothing before the server has a state."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Makes the metrics."""
        state = self._state()
        yield from self._calls()
        yield from _server(state)
        yield from model_metrics(state)

    def _calls(self) -> Iterator[Metric]:
        calls = Counter(
            "rankport_calls", "Calls that ended, by gRPC status.", labels=("front", "method", "model", "code")
        )
        for key, count in self._book.ended().items():
            calls.add_metric((key.front, key.method, key.model, key.code), count)
        yield calls
        seconds = Histogram(
            "rankport_call_seconds",
            "Time of a call, from its message to its answer.",
            labels=("method", "model"),
        )
        for labels, histogram in self._book.seconds().items():
            add_histogram(seconds, labels, histogram)
        yield seconds
        answered = Histogram(
            "rankport_answer_seconds",
            "Time of an answered request, by its class of priority.",
            labels=("model", "priority"),
        )
        for labels, histogram in self._book.answered().items():
            add_histogram(answered, labels, histogram)
        yield answered
        phases = Histogram(
            "rankport_phase_seconds",
            "Time of a request in a phase: waiting for a thread, read and tokenized.",
            labels=("model", "phase"),
        )
        for labels, histogram in self._book.phases().items():
            add_histogram(phases, labels, histogram)
        yield phases
        shortened = Counter(
            "rankport_shortened_requests",
            "Requests of which only the first items were scored.",
            labels=("model",),
        )
        for model, count in self._book.shortened().items():
            shortened.add_metric((model,), count)
        yield shortened


def _server(state: ServerState) -> Iterator[Metric]:
    yield Gauge("rankport_pending_requests", "Requests worked on or waiting.", state.pending_requests)
    yield Gauge("rankport_pending_bytes", "Bytes of their messages.", state.pending_bytes)
    yield Gauge("rankport_open_calls", "Calls and streams that are open.", state.open_calls)
    yield Counter("rankport_overloads", "Requests refused for overload.", state.overloads)
    refusals = Counter(
        "rankport_refused_requests", "Requests refused for now, by why.", labels=("priority", "reason")
    )
    for key, count in state.refusals.items():
        refusals.add_metric(key, count)
    yield refusals
    yield Gauge(
        "rankport_saturated_seconds", "Seconds of refusals for overload without a pause.", state.saturated_s
    )
    yield from _known_scores(state)
    build = Gauge("rankport_build_info", "Version that runs.", labels=("version",))
    build.add_metric((_version(),), 1)
    yield build


def _known_scores(state: ServerState) -> Iterator[Metric]:
    items = Counter(
        "rankport_score_cache_items", "Items looked up in the cache of scores.", labels=("found",)
    )
    items.add_metric(("hit",), state.scores.hits)
    items.add_metric(("miss",), state.scores.misses)
    yield items
    yield Gauge("rankport_score_cache_entries", "Scores in it.", state.scores.entries)
    yield Gauge("rankport_score_cache_bytes", "Bytes of them.", state.scores.nbytes)


def _version() -> str:
    try:
        return metadata.version("rankport")
    except metadata.PackageNotFoundError:
        return "unknown"
