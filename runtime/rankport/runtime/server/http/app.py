"""ASGI application of the HTTP front."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from rankport.protos.errors import NotFound
from rankport.runtime.server.core import Core
from rankport.runtime.server.http.answers import Answer
from rankport.runtime.server.http.bodies import Bodies
from rankport.runtime.server.http.dialect import openai_error
from rankport.runtime.server.http.endpoint import Endpoint
from rankport.runtime.server.http.health import Health
from rankport.runtime.server.http.looks import looks
from rankport.runtime.server.http.routes import ROUTES


def app_of(core: Core, health: Health) -> Starlette:
    """Makes the application of a server."""
    bodies = Bodies(core)
    shown = looks(core, health, ROUTES)
    routes = [
        Route(path, Endpoint(core, bodies, choices), methods=["POST"]) for path, choices in ROUTES.items()
    ]
    routes += [Route(path, look, methods=["GET"]) for path, look in shown.items()]
    app = Starlette(routes=routes, exception_handlers={405: _no_such_method})
    app.router.redirect_slashes = False
    app.router.default = _NoSuchPath(core.config.stream_idle_s)
    return app


async def _no_such_method(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    allowed = (error.headers or {})["Allow"]
    refusal = NotFound(f"{request.method} is no method of {request.url.path}: use {allowed}")
    return JSONResponse(openai_error(refusal), 405, {"allow": allowed})


class _NoSuchPath:
    """ASGI application of all other paths."""

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = NotFound(f"no endpoint is at {scope['path']!r:.80}: /docs lists them")
        await Answer.of_json(openai_error(error), 404).send(send, self._idle_s)
