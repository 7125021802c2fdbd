"""Service `ModelAdmin`, and the port that has it and `Jobs` alone."""

from typing import Any

import grpc

from rankport.protos.messages import admin_wire
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.protos.versions import ModelAlias, ModelVersion
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.address import bind
from rankport.runtime.server.grpc.calls import Context, open_call
from rankport.runtime.server.grpc.guarded import NoMethod
from rankport.runtime.server.grpc.options import server_options
from rankport.runtime.server.grpc.services.jobs import JobsService
from rankport.runtime.server.grpc.strict_server import StrictServer
from rankport.runtime.server.lifecycle.orders import AliasOrder, LoadOrder, RollBackOrder, UnloadOrder


def add_admin(server: grpc.aio.Server, core: Core) -> None:
    """Adds `ModelAdmin` and `Jobs` to a server, for callers with the right `admin`."""
    strict: Any = StrictServer(server, core, right="admin")  # the stubs ask for a whole server
    pb_grpc.add_ModelAdminServicer_to_server(ModelAdminService(core), strict)
    pb_grpc.add_JobsServicer_to_server(JobsService(core), strict)


class AdminFront:
    """Port of the two services alone. Lives on the server's event loop."""

    def __init__(self, core: Core) -> None:
        self._config, self._certificates = core.config.security, core.certificates
        self._shared = core.config.is_front
        self._server = grpc.aio.server(options=server_options(core.config))
        add_admin(self._server, core)
        self._server.add_generic_rpc_handlers((NoMethod(core),))

    async def start(self, port: int) -> int:
        """Answers from now on, and returns the port. Raises `Unavailable` if the address cannot be taken."""
        credentials = None if self._certificates is None else self._certificates.grpc_credentials()
        bound = bind(
            self._server,
            self._config.admin_host,
            port,
            credentials,
            "admin_host or admin_port",
            shared=self._shared,
        )
        await self._server.start()
        return bound

    async def stop(self) -> None:
        """Frees the port."""
        await self._server.stop(None)


class ModelAdminService(pb_grpc.ModelAdminServicer):
    """Changes which versions of models a server has, and what their names mean."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def ListVersions(  # noqa: N802
        self, request: pb.ListVersionsRequest, context: Context
    ) -> pb.ListVersionsResponse:
        async with open_call(context, self._core):
            return admin_wire.versions_message(self._core.models.told())

    async def Load(self, request: pb.LoadModelRequest, context: Context) -> pb.ModelVersion:  # noqa: N802
        async with open_call(context, self._core):
            self._core.admission.check_running()
            order = LoadOrder(request.path, request.name, request.version, request.alias, request.replace)
            return await self._version(order)

    async def Unload(self, request: pb.UnloadModelRequest, context: Context) -> pb.ModelVersion:  # noqa: N802
        async with open_call(context, self._core):
            return await self._version(UnloadOrder(request.model))

    async def SetAlias(self, request: pb.SetAliasRequest, context: Context) -> pb.ModelAlias:  # noqa: N802
        async with open_call(context, self._core):
            targets = admin_wire.target_values(request.targets)
            return await self._alias(AliasOrder(request.alias, tuple(targets)))

    async def RollBack(self, request: pb.RollBackRequest, context: Context) -> pb.ModelAlias:  # noqa: N802
        async with open_call(context, self._core):
            return await self._alias(RollBackOrder(request.alias))

    async def _version(self, order: LoadOrder | UnloadOrder) -> pb.ModelVersion:
        changed = await self._core.take(order)
        assert isinstance(changed, ModelVersion), "what is loaded or unloaded is a version"
        return admin_wire.version_message(changed)

    async def _alias(self, order: AliasOrder | RollBackOrder) -> pb.ModelAlias:
        changed = await self._core.take(order)
        assert isinstance(changed, ModelAlias), "what is set or set back is an alias"
        return admin_wire.alias_message(changed)
