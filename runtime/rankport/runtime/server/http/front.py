"""Front for HTTP: its port, and the health that it reports."""

import asyncio
import socket
from collections.abc import Mapping
from functools import partial

import uvicorn

from rankport.protos.errors import Unavailable
from rankport.runtime.server.core import Core
from rankport.runtime.server.http.app import MAX_HEAD_BYTES, app_of, malformed
from rankport.runtime.server.http.listener import Listener
from rankport.runtime.server.http.looks.health import Health
from rankport.runtime.server.http.protocol import ConnectionRules

_BACKLOG = 2048
_KEEP_ALIVE_S = 75  # longer than load balancers keep theirs, which would send into a connection that is gone
_FAREWELL_S = 1  # for connections that do not end by themselves


class HttpFront:
    """HTTP endpoints of a server on one port. Lives on the server's event loop."""

    def __init__(self, core: Core) -> None:
        self._config, self._readiness = core.config, core.readiness
        self._health = Health()
        self._listener: Listener | None = None
        rules = ConnectionRules(
            idle_s=core.config.stream_idle_s,
            most=core.config.max_connections,
            most_of_address=core.config.http_max_address_connections,
            made=self._made,
            malformed=partial(malformed, core),
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                app_of(core, self._health),
                http=rules.connection(),
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_FAREWELL_S,
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            )
        )
        if core.certificates is not None:
            self._server.config.load()
            self._server.config.ssl = core.certificates.ssl_context()
        self._serving: asyncio.Task[None] | None = None

    async def start(self, port: int) -> int:
        """Answers requests from now on, and returns the port. Raises `Unavailable` if the address cannot be taken."""
        bound = _bound(self._config.http_host, port, shared=self._config.is_front)
        bound.most, self._listener = self._config.max_connections, bound
        self._serving = asyncio.create_task(self._server.serve([bound]))
        taken: int = bound.getsockname()[1]
        return taken

    def _made(self, number: int) -> None:
        if self._listener is not None:
            self._listener.made(number)

    def report(self, alive: Mapping[str, bool]) -> None:
        """Reports the health of models by name."""
        self._health.alive, self._health.reasons = dict(alive), self._readiness.reasons

    def not_serving(self) -> None:
        """Reports that the server is not ready from now on."""
        self._health.stopping = True

    async def stop(self) -> None:
        """Frees the port and closes connections: what is left of calls is cut off."""
        if self._serving is not None:
            self._server.should_exit = True
            await self._serving


def _bound(host: str, port: int, *, shared: bool) -> Listener:
    try:
        infos = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = infos[0]
        bound = Listener(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind(address)
            bound.listen(_BACKLOG)  # clients that come before the loop does wait
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise Unavailable(
            f"cannot listen for HTTP on {host} port {port}: {error.strerror}; choose another http_host or http_port"
        ) from error
    bound.setblocking(False)
    return bound
