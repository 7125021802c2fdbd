"""Export of spans as the environment asks for it, by OpenTelemetry's SDK of the extra `tracing`."""

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from rankport.protos.errors import InvalidRequest
from rankport.protos.installed.extras import extras_named

_log = logging.getLogger(__name__)

_FAREWELL_S = 2.0
_EXPORTER = "OTEL_TRACES_EXPORTER"
# Exporters of other things, with those whose place rankport takes, and where a collector finds what it has.
_OTHERS = {
    "OTEL_METRICS_EXPORTER": (("prometheus",), "have a collector scrape /metrics (--metrics-port)"),
    "OTEL_LOGS_EXPORTER": (("console",), "have a collector read its lines (--json-log)"),
}
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_MODULES = {"grpc": "grpc", "http/protobuf": "http"}  # of opentelemetry.exporter.otlp.proto
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
    for complaint in left_out(environment):
        _log.warning("%s", complaint)
    wanted = _wanted(environment)
    if wanted == "none":
        yield False
        return
    with extras_named(f"{_EXPORTER} {wanted}"):
        provider = _provider(wanted, environment)
    try:
        yield True
    finally:
        if provider is not None:
            _shut_down(provider)


def left_out(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Tells which exports that the environment asks for there are none of; a process may have agents that do them."""
    said = {name: environment.get(name, "").strip() for name in _OTHERS}
    return [
        f"{name} is {value!r:.60}, which rankport does nothing about: {_OTHERS[name][1]}"
        for name, value in said.items()
        if value not in ("", "none", *_OTHERS[name][0])
    ]


def traces_asked_for(environment: Mapping[str, str] = os.environ) -> bool:
    """Says whether a variable is about them."""
    return any(environment.get(name) for name in (_EXPORTER, *_ENDPOINTS))


def check_traces(environment: Mapping[str, str] = os.environ) -> None:
    """Raises as `traces_exported`, and exports nothing."""
    if (wanted := _wanted(environment)) != "none":
        with extras_named(f"{_EXPORTER} {wanted}"):
            import opentelemetry.sdk.trace.export  # noqa: F401

            if wanted == "otlp":
                _otlp_class(environment)


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


def _provider(exporter: str, environment: Mapping[str, str]) -> Any:
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
        BatchSpanProcessor(ConsoleSpanExporter() if exporter == "console" else _otlp_class(environment)())
    )
    trace.set_tracer_provider(provider)
    return provider


def _otlp_class(environment: Mapping[str, str]) -> Any:
    """Finds the exporter of the protocol that the environment asks for; gRPC unless it says another."""
    name = next((name for name in _PROTOCOLS if environment.get(name)), "")
    protocol = environment[name] if name else "grpc"
    if protocol not in _MODULES:
        raise InvalidRequest(f"{name} is {protocol!r:.60}: give {' or '.join(_MODULES)}")
    try:
        module = import_module(f"opentelemetry.exporter.otlp.proto.{_MODULES[protocol]}.trace_exporter")
    except ModuleNotFoundError:
        if protocol == "grpc":
            raise
        raise InvalidRequest(
            f"{name} is {protocol!r}: pip install opentelemetry-exporter-otlp-proto-http, or give grpc"
        ) from None
    return module.OTLPSpanExporter
