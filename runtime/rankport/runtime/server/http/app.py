"""ASGI application of the HTTP front."""

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from rankport.protos.errors import NotFound
from rankport.runtime.server.core import Core
from rankport.runtime.server.http.bodies import Bodies
from rankport.runtime.server.http.endpoint import Endpoint
from rankport.runtime.server.http.health import Health
from rankport.runtime.server.http.looks import looks
from rankport.runtime.server.http.refusals import refused
from rankport.runtime.server.http.routes import ROUTES


def app_of(core: Core, health: Health) -> Starlette:
    """Makes the application of a server."""
    bodies = Bodies(core)
    shown = looks(core, health, ROUTES)
    routes = [
        Route(path, Endpoint(core, bodies, choices), methods=["POST"]) for path, choices in ROUTES.items()
    ]
    routes += [Route(path, look, methods=["GET"]) for path, look in shown.items()]

    async def no_such_method(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        allowed, path = (error.headers or {})["Allow"], request.url.path
        refusal = NotFound(f"{request.method} is no method of {path}: use {allowed}")
        answer = refused(core, refusal, request.headers, path=path, status=405).with_header("allow", allowed)
        return Response(answer.content, answer.status, dict(answer.headers), answer.media_type)

    app = Starlette(routes=routes, exception_handlers={405: no_such_method})
    app.router.redirect_slashes = False
    app.router.default = _NoSuchPath(core)
    return app


class _NoSuchPath:
    """ASGI application of all other paths."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = NotFound(f"no endpoint is at {scope['path']!r:.80}: /docs lists them")
        answer = refused(self._core, error, Headers(scope=scope))
        await answer.send(send, self._core.config.stream_idle_s)
