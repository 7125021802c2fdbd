"""Trace context of calls: a client's calls belong to the span that its application is in, by OpenTelemetry's API.

An application that never imported OpenTelemetry is in no span, and its calls cost nothing more.
"""

import sys
from collections.abc import Mapping

Metadata = tuple[tuple[str, str], ...]


def trace_metadata(modules: Mapping[str, object] = sys.modules) -> Metadata | None:
    """Makes the metadata of a call within the current span (`traceparent`); None where there is none."""
    if "opentelemetry.trace" not in modules:
        return None
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return tuple(carrier.items()) or None
