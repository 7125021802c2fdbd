"""Trace context of calls: a client's calls belong to the span that its application is in, by OpenTelemetry's API.

An application that never imported OpenTelemetry is in no span, and its calls cost nothing more.
"""

import sys
from collections.abc import Mapping

from rankport.sdk.request_ids import REQUEST_ID_KEY, current_request_id

Metadata = tuple[tuple[str, str], ...]


def trace_metadata(modules: Mapping[str, object] = sys.modules) -> Metadata | None:
    """Makes the metadata of a call: the current span's (`traceparent`), and its id; None where there is neither."""
    carrier: dict[str, str] = {}
    if id := current_request_id():
        carrier[REQUEST_ID_KEY] = id
    if "opentelemetry.trace" in modules:
        from opentelemetry import propagate

        propagate.inject(carrier)
    return tuple(carrier.items()) or None
