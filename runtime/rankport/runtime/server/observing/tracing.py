"""Spans of calls by OpenTelemetry's API, where it is installed and the process has a tracer provider.

Who makes spans leave the process, and where to, is the provider's business: `exporting`.
"""

import time
from collections.abc import Mapping
from typing import Any

Attributes = dict[str, str | int | float | tuple[str, ...]]
_NAME = "rankport"


class Tracing:
    """Tracer of a server; does nothing where there is no provider yet."""

    def __init__(self, provider: Any = None) -> None:
        """Takes a provider in the stead of the process's."""
        self._tracer = _tracer(provider)

    def span_of(self, name: str, headers: Mapping[str, str]) -> "CallSpan | None":
        """Begins the span of a call within its client's trace, as `headers` say it (`traceparent`)."""
        if self._tracer is None:
            return None
        from opentelemetry import propagate, trace

        context = propagate.extract(headers)
        span = self._tracer.start_span(name, context, trace.SpanKind.SERVER)
        return CallSpan(self._tracer, span) if span.is_recording() else None


class CallSpan:
    """Span of one call, with a child for each phase that takes time."""

    def __init__(self, tracer: Any, span: Any) -> None:
        self._tracer, self._span = tracer, span

    @property
    def trace_id(self) -> str:
        """Id of the trace, 32 hexadecimal digits."""
        return f"{self._span.get_span_context().trace_id:032x}"

    def phase(self, name: str, seconds: float, ended_ago_s: float = 0.0, **attributes: float) -> None:
        """Adds a child that took so long and ended a while ago."""
        from opentelemetry import trace

        end_ns = time.time_ns() - round(ended_ago_s * 1e9)
        child = self._tracer.start_span(
            name,
            trace.set_span_in_context(self._span),
            attributes=attributes,
            start_time=end_ns - round(seconds * 1e9),
        )
        child.end(end_ns)

    def end(self, code: str, attributes: Attributes) -> None:
        """Ends the span with a gRPC status; those that are the server's fault make it an error."""
        from opentelemetry import trace

        self._span.set_attributes(attributes)
        if code != "OK":
            self._span.set_attribute("error.type", code)
        if code in _FAULTS:
            self._span.set_status(trace.Status(trace.StatusCode.ERROR, code))
        self._span.end()


_FAULTS = ("INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED", "FAILED_PRECONDITION")


def _tracer(provider: Any) -> Any:
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    provider = provider or trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider) else provider.get_tracer(_NAME)
