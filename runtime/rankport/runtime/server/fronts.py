"""Fronts of a server together: gRPC always, HTTP where it has a port."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from rankport.protos.extras import extras_named
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.front import GrpcFront


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports that the fronts listen on."""

    grpc: int
    http: int | None


class Fronts:
    """All fronts. They live on the server's event loop."""

    def __init__(self, core: Core) -> None:
        """Raises `MissingExtra` if HTTP is asked for and what speaks it is not installed."""
        self._port = core.config.http_port
        self._grpc = GrpcFront(core)
        self._http = None
        if self._port is not None:
            with extras_named("HTTP"):
                from rankport.runtime.server.http.front import HttpFront

            self._http = HttpFront(core)

    async def start(self) -> Ports:
        """Answers from now on, and returns the ports. Raises `Unavailable` if an address cannot be taken."""
        if self._http is None or self._port is None:
            return Ports(await self._grpc.start(), None)
        http = await self._http.start(self._port)
        try:
            return Ports(await self._grpc.start(), http)
        except Exception:
            await self._http.stop()
            raise

    async def report(self, alive: Mapping[str, bool]) -> None:
        """Reports the health of models by name."""
        await self._grpc.report(alive)
        if self._http is not None:
            self._http.report(alive)

    async def not_serving(self) -> None:
        """Reports everything as not serving from now on."""
        if self._http is not None:
            self._http.not_serving()
        await self._grpc.not_serving()

    async def stop(self, *, quiet: bool) -> None:
        """Frees the ports and closes connections; see `GrpcFront.stop`."""
        stops = [self._grpc.stop(quiet=quiet)]
        if self._http is not None:
            stops.append(self._http.stop())
        await asyncio.gather(*stops)
