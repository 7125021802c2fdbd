"""Looks at the server: health, models, counts, the pages. A look is no work, and is answered always."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from rankport.protos.errors import (
    ERROR_METADATA_KEY,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RankportError,
    Unauthenticated,
    http_status,
)
from rankport.runtime.server.core import Core
from rankport.runtime.server.http.answers import Answer
from rankport.runtime.server.http.dialect import kserve_error, openai_error
from rankport.runtime.server.http.endpoint import Choice
from rankport.runtime.server.http.looks.health import Health
from rankport.runtime.server.http.looks.kserve import PROBES, kserve_looks
from rankport.runtime.server.http.looks.model_list import model_entry, model_list
from rankport.runtime.server.http.looks.openapi import document, documented_page
from rankport.runtime.server.http.looks.status_page import status_page
from rankport.runtime.server.observing.call import read_headers
from rankport.runtime.server.security.guard import AUTHORIZATION, Guard
from rankport.runtime.server.security.tokens import Right

Show = Callable[[Scope], Answer]
# For whoever comes.
_OPEN = ("/docs", "/openapi.json", "/health", "/health/ready", "/health/live", *PROBES)
_HTML, _PLAIN = "text/html; charset=utf-8", "text/plain; version=0.0.4; charset=utf-8"
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}


class Look:
    """ASGI application of one path that is looked at."""

    def __init__(
        self,
        path: str,
        show: Show,
        idle_s: float,
        guard: Guard | None = None,
        *,
        slow: bool = False,
        refusal: Callable[[RankportError], Mapping[str, object]] = openai_error,
    ) -> None:
        """Takes the guard of a path that not everyone may look at. `slow`: shown by a thread."""
        self.path = path  # as the server writes it, with places for names
        self._slow = slow
        self._show = show
        self._idle_s = idle_s
        self._guard = guard
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Shows it, or refuses to."""
        try:
            if self._guard is not None:
                _let_in(self._guard, scope)
            answer = await asyncio.to_thread(self._show, scope) if self._slow else self._show(scope)
        except (Unauthenticated, PermissionDenied, InvalidRequest, NotFound) as error:
            headers = {ERROR_METADATA_KEY: type(error).__name__}
            headers |= {"www-authenticate": "Bearer"} if isinstance(error, Unauthenticated) else {}
            answer = Answer.of_json(self._refusal(error), http_status(error), headers)
        await answer.send(send, self._idle_s)


def _let_in(guard: Guard, scope: Scope) -> None:
    headers, twice = read_headers(Headers(scope=scope).items())
    if twice:
        raise InvalidRequest(f"{twice} is given twice, with two values: give it once")
    right: Right = "metrics" if scope["path"] == "/metrics" else "call"
    guard.caller(headers.get(AUTHORIZATION), right)


def looks(core: Core, health: Health, routes: Mapping[str, Sequence[Choice]]) -> Mapping[str, Look]:
    """Makes the application of each path."""
    begun_s = time.monotonic()
    described = document(routes, version("rankport"))
    endpoints = documented_page(described)
    shown: dict[str, Show] = {
        "/": lambda _: _page(status_page(core, health, time.monotonic() - begun_s)),
        "/docs": lambda _: _page(endpoints),
        "/openapi.json": lambda _: Answer.of_json(described),
        "/health": lambda _: health.answer(),
        "/health/ready": lambda _: health.answer(),
        "/health/live": lambda _: _live(core),
        "/metrics": _metrics(core),
        "/v1/models": lambda _: Answer.of_json(model_list(core.models, core.limits)),
        "/v1/models/{model}": lambda scope: Answer.of_json(
            model_entry(core.models, scope["path_params"]["model"])
        ),
    }
    tensors = kserve_looks(core)
    return {
        path: Look(
            path,
            show,
            core.config.stream_idle_s,
            None if path in _OPEN else core.guard,
            slow=path == "/metrics",
            refusal=kserve_error if path in tensors else openai_error,
        )
        for path, show in (*shown.items(), *tensors.items())
    }


def _live(core: Core) -> Answer:
    if core.live():
        return Answer.of_json({"status": "live"})
    reason = "an engine stopped or hangs, or the process that starts fronts and stops them in order does"
    return Answer.of_json({"status": "not live", "reason": reason}, 503)


def _metrics(core: Core) -> Show:
    try:
        page = core.metrics_page()
    except RankportError as error:  # prometheus-client is not installed
        refusal = Answer.of_json(openai_error(error), 503)
        return lambda _: refusal
    return lambda _: Answer(page(), media_type=_PLAIN)


def _page(html: str) -> Answer:
    return Answer(html.encode(), headers=_PAGE_HEADERS, media_type=_HTML)
