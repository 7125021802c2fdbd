"""Front for gRPC: its port with all services on it, and the health that it reports."""

import socket
from collections.abc import Mapping
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from rankport.protos.errors import Unavailable
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.classification import ClassificationService
from rankport.runtime.server.grpc.embedding import EmbeddingService
from rankport.runtime.server.grpc.models import ModelsService
from rankport.runtime.server.grpc.scoring import ScoringService
from rankport.runtime.server.grpc.strict_server import StrictServer
from rankport.runtime.server.grpc.tagging import TaggingService

_NO_LIMIT = 2**31 - 1
_FAREWELL_S = 0.1  # for what never ends by itself, such as health watches
_SERVICES = tuple(service.full_name for service in pb.DESCRIPTOR.services_by_name.values())
_STATUS = {
    True: health_pb2.HealthCheckResponse.SERVING,
    False: health_pb2.HealthCheckResponse.NOT_SERVING,
}


class GrpcFront:
    """gRPC services of a server on one port. Lives on the server's event loop."""

    def __init__(self, core: Core) -> None:
        self._config = core.config
        self._server = grpc.aio.server(options=_options(core.config))
        self._health = health.aio.HealthServicer()
        self._add_services(core)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    def _add_services(self, core: Core) -> None:
        strict: Any = StrictServer(self._server, core)  # the stubs ask for a whole server
        pb_grpc.add_ScoringServicer_to_server(ScoringService(core), strict)
        pb_grpc.add_EmbeddingServicer_to_server(EmbeddingService(core), strict)
        pb_grpc.add_TaggingServicer_to_server(TaggingService(core), strict)
        pb_grpc.add_ClassificationServicer_to_server(ClassificationService(core), strict)
        pb_grpc.add_ModelsServicer_to_server(ModelsService(core), strict)

    async def start(self) -> int:
        """Answers calls from now on, and returns the port. Raises `Unavailable` if the address cannot be taken."""
        port = _bind(self._server, self._config)
        await self._server.start()
        return port

    async def report(self, alive: Mapping[str, bool]) -> None:
        """Reports the health of models by name, and of the services, which is that of all models together."""
        together = dict.fromkeys(("", *_SERVICES), all(alive.values()))
        for name, serving in (together | dict(alive)).items():
            await self._health.set(name, _STATUS[serving])

    async def not_serving(self) -> None:
        """Reports everything as not serving from now on, whatever `report` says."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, *, quiet: bool) -> None:
        """Frees the port and closes connections: what is left of calls ends as UNAVAILABLE.

        `quiet`: no calls arrive, and clients may be told with more ceremony. gRPC cancels calls that arrive meanwhile.
        """
        await self._server.stop(_FAREWELL_S if quiet else None)


def _bind(server: grpc.aio.Server, config: ServerConfig) -> int:
    address = host_port(config.host, config.port)
    try:
        _try_to_bind(config)  # gRPC would not say what is wrong
        return server.add_insecure_port(address)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "gRPC refused it"
        raise Unavailable(f"cannot listen on {address}: {reason}; choose another host or port") from error


def host_port(host: str, port: int) -> str:
    """Writes an address, an IPv6 one in brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _try_to_bind(config: ServerConfig) -> None:
    """Raises the `OSError` of an address that is taken, forbidden or unknown."""
    addresses = socket.getaddrinfo(
        config.host.strip("[]"), config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, address = addresses[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC, past what lingers of a server
        probe.bind(address)


def _options(config: ServerConfig) -> list[tuple[str, int]]:
    age_ms = round(config.max_connection_age_s * 1000)
    return [
        # The services refuse what is too large, and say so; gRPC's own refusal looks like an overload.
        ("grpc.max_receive_message_length", min(2 * config.max_message_bytes, _NO_LIMIT)),
        ("grpc.max_send_message_length", -1),
        # Past these gRPC would cancel calls that no service has seen; it holds back those of a connection instead.
        ("grpc.max_concurrent_streams", config.max_connection_calls),
        ("grpc.http.overload_protection", 0),
        ("grpc.server.max_pending_requests", _NO_LIMIT),
        ("grpc.server.max_pending_requests_hard_limit", _NO_LIMIT),
        ("grpc.server_max_unrequested_time_in_server", _NO_LIMIT // 1000),
        # Calls in progress finish; by default streams that never do would keep their connection.
        *([("grpc.max_connection_age_ms", age_ms)] if age_ms else []),
        *([("grpc.max_connection_age_grace_ms", round(config.grace_s * 1000))] if age_ms else []),
        # Two servers on one port would share its calls at random; the second one fails instead.
        ("grpc.so_reuseport", 0),
        # Clients that vanished without a word are noticed, and their work dropped.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Clients may do the same at this pace.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]
