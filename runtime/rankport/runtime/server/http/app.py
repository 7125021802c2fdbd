"""ASGI application of the HTTP front, and refusals of what reaches no endpoint, told and counted as theirs are."""

import h11
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from rankport.protos.errors import (
    ERROR_METADATA_KEY,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    RankportError,
    http_status,
)
from rankport.runtime.options import size_in_words
from rankport.runtime.server.core import Core
from rankport.runtime.server.http.answers import Answer
from rankport.runtime.server.http.bodies import Bodies
from rankport.runtime.server.http.dialect import openai_error
from rankport.runtime.server.http.endpoint import Endpoint
from rankport.runtime.server.http.looks.health import Health
from rankport.runtime.server.http.looks.looks import looks
from rankport.runtime.server.http.routes import ROUTES
from rankport.runtime.server.observing.call import REQUEST_ID, WorkingFor

MAX_HEAD_BYTES = 64 * 2**10
_HEAD_TOO_LARGE = 431
_VERBS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_TLS = b"\x16\x03"  # which a greeting of TLS begins with


def app_of(core: Core, health: Health) -> Starlette:
    """Makes the application of a server."""
    bodies = Bodies(core)
    shown = looks(core, health, ROUTES)
    routes = [
        Route(_route(path), Endpoint(core, bodies, path, choices), methods=["POST"])
        for path, choices in ROUTES.items()
    ]
    routes += [Route(_route(path), look, methods=["GET"]) for path, look in shown.items()]

    async def no_such_method(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        allowed = (error.headers or {})["Allow"]
        refusal = NotFound(f"{request.method} is no method of {request.url.path}: use {allowed}")
        route = request.scope["endpoint"].path  # a path may have names that a client makes up
        answer = refused(core, refusal, request.headers, path=route, status=405, verb=request.method)
        answer = answer.with_header("allow", allowed)
        return Response(answer.content, answer.status, dict(answer.headers), answer.media_type)

    app = Starlette(routes=routes, exception_handlers={405: no_such_method})
    app.router.redirect_slashes = False
    app.router.default = _NoSuchPath(core)
    return app


def _route(path: str) -> str:
    """Writes a path for the router: names of models may have slashes, as those of the Hub."""
    return path.replace("{model}", "{model:path}")


class _NoSuchPath:
    """ASGI application of all other paths."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = NotFound(f"no endpoint is at {scope['path']!r:.80}: /docs lists them")
        answer = refused(self._core, error, Headers(scope=scope), verb=scope["method"])
        await answer.send(send, self._core.config.stream_idle_s)


def refused(
    core: Core,
    error: RankportError,
    headers: Headers,
    *,
    path: str = "",
    status: int | None = None,
    verb: str = "",
) -> Answer:
    """Counts a request as one that failed, and makes what its client is told; a `path` is one that there is."""
    verb = verb if verb in _VERBS else ""  # a client may write any
    with WorkingFor(core.observer.begin("http", path, headers.items(), verb=verb)) as call:
        core.admission.failed(error, status)
    return _told(error, status or http_status(error)).with_header(REQUEST_ID, call.request_id)


def malformed(core: Core, fault: h11.RemoteProtocolError, unread: bytes, *, in_body: bool) -> Answer:
    """Refuses what is no HTTP/1.1, of which some bytes are `unread`; within a body its request is counted already."""
    error, status = _error_of(fault, unread)
    return _told(error, status) if in_body else refused(core, error, Headers(), status=status)


def _error_of(fault: h11.RemoteProtocolError, unread: bytes) -> tuple[RankportError, int]:
    if fault.error_status_hint == _HEAD_TOO_LARGE:
        limit = size_in_words(MAX_HEAD_BYTES)
        error = LimitExceeded(
            f"the head of the request has more than {limit}: send fewer headers, or shorter ones"
        )
        return error, _HEAD_TOO_LARGE
    if unread.startswith(_TLS):
        return InvalidRequest("this port speaks no TLS: ask it by http://"), 400
    return InvalidRequest(f"the request is no HTTP/1.1: {fault}"), 400


def _told(error: RankportError, status: int) -> Answer:
    return Answer.of_json(openai_error(error, status), status, {ERROR_METADATA_KEY: type(error).__name__})
