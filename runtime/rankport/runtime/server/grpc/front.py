"""Front for gRPC: its port with all services on it, and the health that it reports."""

from collections.abc import Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rankport.protos.kserve import kserve_pb2, kserve_pb2_grpc
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.address import bind
from rankport.runtime.server.grpc.admin import add_admin
from rankport.runtime.server.grpc.guarded import NoMethod
from rankport.runtime.server.grpc.kserve import service as kserve
from rankport.runtime.server.grpc.open.health import HealthService
from rankport.runtime.server.grpc.open.open_server import OpenServer
from rankport.runtime.server.grpc.open.reflection import add_reflection
from rankport.runtime.server.grpc.open_calls import OpenCalls
from rankport.runtime.server.grpc.options import server_options
from rankport.runtime.server.grpc.services.classification import ClassificationService
from rankport.runtime.server.grpc.services.embedding import EmbeddingService
from rankport.runtime.server.grpc.services.generation import GenerationService
from rankport.runtime.server.grpc.services.models import ModelsService
from rankport.runtime.server.grpc.services.scoring import ScoringService
from rankport.runtime.server.grpc.services.set_ranking import SetRankingService
from rankport.runtime.server.grpc.services.tagging import TaggingService
from rankport.runtime.server.grpc.strict_server import StrictServer

_FAREWELL_S = 0.1  # for what never ends by itself, such as health watches
_SERVICES = (*(service.full_name for service in pb.DESCRIPTOR.services_by_name.values()), kserve.SERVICE_NAME)
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class GrpcFront:
    """gRPC services of a server on one port. Lives on the server's event loop."""

    def __init__(self, core: Core) -> None:
        self._config, self._certificates = core.config, core.certificates
        self._server = grpc.aio.server(options=server_options(core.config))
        self._health, calls = HealthService(), OpenCalls(core.config)
        self._add_services(core, calls)
        to_all: Any = OpenServer(self._server, core, calls)  # the stubs ask for a whole server
        health_pb2_grpc.add_HealthServicer_to_server(self._health, to_all)
        package, _ = kserve.SERVICE_NAME.rsplit(".", 1)
        add_reflection(
            to_all,
            (pb.DESCRIPTOR, health_pb2.DESCRIPTOR),
            [(kserve_pb2.DESCRIPTOR, package)],
            (*_SERVICES, _HEALTH),
        )
        self._server.add_generic_rpc_handlers((NoMethod(core),))

    def _add_services(self, core: Core, calls: OpenCalls) -> None:
        strict: Any = StrictServer(self._server, core)  # the stubs ask for a whole server
        pb_grpc.add_ScoringServicer_to_server(ScoringService(core), strict)
        pb_grpc.add_EmbeddingServicer_to_server(EmbeddingService(core), strict)
        pb_grpc.add_TaggingServicer_to_server(TaggingService(core), strict)
        pb_grpc.add_ClassificationServicer_to_server(ClassificationService(core), strict)
        pb_grpc.add_GenerationServicer_to_server(GenerationService(core), strict)
        pb_grpc.add_SetRankingServicer_to_server(SetRankingService(core), strict)
        pb_grpc.add_ModelsServicer_to_server(ModelsService(core), strict)
        if core.config.security.admin_port is None:
            add_admin(self._server, core)
        wire_name: Any = StrictServer(
            self._server, core, service=kserve.SERVICE_NAME, open_to_all=kserve.PROBES, calls=calls
        )
        kserve_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(kserve.KserveService(core), wire_name)

    async def start(self) -> int:
        """Answers calls from now on, and returns the port. Raises `Unavailable` if the address cannot be taken."""
        credentials = None if self._certificates is None else self._certificates.grpc_credentials()
        port = bind(
            self._server, self._config.host, self._config.port, credentials, shared=self._config.is_front
        )
        await self._server.start()
        return port

    def report(self, alive: Mapping[str, bool]) -> None:
        """Reports the health of models by name, and of the services, which is that of all models together."""
        together = dict.fromkeys(("", *_SERVICES), bool(alive) and all(alive.values()))
        self._health.tell(together | dict(alive))

    def not_serving(self) -> None:
        """Reports everything as not serving from now on, whatever `report` says."""
        self._health.leave()

    async def stop(self, *, quiet: bool) -> None:
        """Frees the port and closes connections: what is left of calls ends as UNAVAILABLE.

        `quiet`: no calls arrive, and clients may be told with more ceremony. gRPC cancels calls that arrive meanwhile.
        """
        await self._server.stop(_FAREWELL_S if quiet else None)
