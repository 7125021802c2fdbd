"""Metadata of calls by what their application is in: its span, by OpenTelemetry's API, a request's id and priority.

An application that never imported OpenTelemetry is in no span, and its calls cost nothing more.
"""

import re
import sys
from collections.abc import Mapping

from rankport.protos.priorities import PRIORITY_KEY, Priority, checked_priority, current_priority
from rankport.protos.versions import MODEL_KEY
from rankport.sdk.transport.request_ids import REQUEST_ID_KEY, current_request_id

_PRINTABLE = re.compile(r"[\x21-\x7e]+")
Metadata = tuple[tuple[str, str], ...]


def trace_metadata(
    priority: Priority | None = None, model: str = "", modules: Mapping[str, object] = sys.modules
) -> Metadata | None:
    """Makes the metadata of a call: the current span's (`traceparent`), its id, its priority and the `model` it names.

    None without any. `priority` is the call's own, else the running code's counts. Raises `InvalidRequest` for a class
    there is not.
    """
    carrier: dict[str, str] = {}
    if id := current_request_id():
        carrier[REQUEST_ID_KEY] = id
    said = current_priority() if priority is None else checked_priority(priority)
    if said is not None:
        carrier[PRIORITY_KEY] = said
    carrier.update(model_metadata(model))
    if "opentelemetry.trace" in modules:
        from opentelemetry import propagate

        propagate.inject(carrier)
    return tuple(carrier.items()) or None


def model_metadata(model: str) -> Metadata:
    """Names the model of a call, by which a server refuses it unread; () where only the message can say it."""
    return ((MODEL_KEY, model),) if _PRINTABLE.fullmatch(model) else ()
