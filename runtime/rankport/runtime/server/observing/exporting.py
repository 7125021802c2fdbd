"""Export of spans as the environment asks for it, by OpenTelemetry's SDK of the extra `tracing`."""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rankport.protos.errors import InvalidRequest
from rankport.protos.extras import extras_named

_FAREWELL_S = 2.0
_EXPORTER = "OTEL_TRACES_EXPORTER"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


@contextmanager
def traces_exported(environment: Mapping[str, str] = os.environ) -> Iterator[bool]:
    """Has spans leave the process during the block, and says so; where they go, OpenTelemetry's own variables say.

    `OTEL_TRACES_EXPORTER` is otlp, console or none; with an OTLP endpoint otlp is meant. A provider that the process
    has already stays.

    Raises:
        InvalidRequest: the variable names another exporter.
        MissingExtra: spans are asked for, and the extra `tracing` is not installed.
    """
    wanted = _wanted(environment)
    if wanted == "none":
        yield False
        return
    with extras_named(f"{_EXPORTER} {wanted}"):
        provider = _provider(wanted)
    try:
        yield True
    finally:
        if provider is not None:
            _shut_down(provider)


def traces_asked_for(environment: Mapping[str, str] = os.environ) -> bool:
    """Says whether a variable is about them."""
    return any(environment.get(name) for name in (_EXPORTER, *_ENDPOINTS))


def check_traces(environment: Mapping[str, str] = os.environ) -> None:
    """Raises as `traces_exported`, and exports nothing."""
    if (wanted := _wanted(environment)) != "none":
        with extras_named(f"{_EXPORTER} {wanted}"):
            import opentelemetry.exporter.otlp.proto.grpc.trace_exporter
            import opentelemetry.sdk.trace.export  # noqa: F401


def _shut_down(provider: Any) -> None:
    """Sends what is left, as far as a collector takes it at once: one that is away would hold the exit for long."""
    farewell = threading.Thread(target=provider.shutdown, name="rankport-traces", daemon=True)
    farewell.start()
    farewell.join(_FAREWELL_S)


def _wanted(environment: Mapping[str, str]) -> str:
    default = "otlp" if any(environment.get(name) for name in _ENDPOINTS) else "none"
    wanted = environment.get(_EXPORTER) or default
    if wanted not in ("otlp", "console", "none"):
        raise InvalidRequest(f"{_EXPORTER} is {wanted!r}: give otlp, console or none")
    return wanted


def _provider(exporter: str) -> Any:
    """Sets a provider, and returns it; None where the process has one."""
    from opentelemetry import trace
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    named = Resource.create()  # with the environment's OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
    if str(named.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        named = named.merge(Resource({SERVICE_NAME: "rankport"}))
    provider = TracerProvider(resource=named, shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(ConsoleSpanExporter() if exporter == "console" else _otlp())
    )
    trace.set_tracer_provider(provider)
    return provider


def _otlp() -> Any:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
