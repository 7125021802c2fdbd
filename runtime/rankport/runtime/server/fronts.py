"""Fronts of a server together: gRPC always, HTTP and admin calls where they have a port."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from rankport.protos.installed.extras import extras_named
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.admin import AdminFront
from rankport.runtime.server.grpc.front import GrpcFront


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports that the fronts listen on."""

    grpc: int
    http: int | None
    admin: int | None


class Fronts:
    """All fronts. They live on the server's event loop."""

    def __init__(self, core: Core) -> None:
        """Raises `MissingExtra` if HTTP is asked for and what speaks it is not installed."""
        self._port, self._admin_port = core.config.http_port, core.config.security.admin_port
        self._admin = None if self._admin_port is None else AdminFront(core)
        self._grpc = GrpcFront(core)
        self._http = None
        if self._port is not None:
            with extras_named("HTTP"):
                from rankport.runtime.server.http.front import HttpFront

            self._http = HttpFront(core)

    async def start(self) -> Ports:
        """Answers from now on, and returns the ports. Raises `Unavailable` if an address cannot be taken."""
        begun: list[Callable[[], Awaitable[None]]] = []
        http = admin = None
        try:
            if self._http is not None and self._port is not None:
                http = await self._http.start(self._port)
                begun.append(self._http.stop)
            if self._admin is not None and self._admin_port is not None:
                admin = await self._admin.start(self._admin_port)
                begun.append(self._admin.stop)
            return Ports(await self._grpc.start(), http, admin)
        except Exception:
            for stop in begun:
                await stop()
            raise

    def report(self, alive: Mapping[str, bool]) -> None:
        """Reports the health of models by name."""
        self._grpc.report(alive)
        if self._http is not None:
            self._http.report(alive)

    def not_serving(self) -> None:
        """Reports everything as not serving from now on."""
        if self._http is not None:
            self._http.not_serving()
        self._grpc.not_serving()

    async def stop(self, *, quiet: bool) -> None:
        """Frees the ports and closes connections; see `GrpcFront.stop`."""
        stops = [self._grpc.stop(quiet=quiet)]
        if self._admin is not None:
            stops.append(self._admin.stop())
        if self._http is not None:
            stops.append(self._http.stop())
        await asyncio.gather(*stops)
