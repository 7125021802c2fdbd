"""Service `ModelAdmin`."""

from rankport.protos import admin_wire
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.calls import Context, open_call
from rankport.runtime.server.lifecycle.lifecycle import LoadOrder


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
            return admin_wire.version_message(await self._core.lifecycle.load(order))

    async def Unload(self, request: pb.UnloadModelRequest, context: Context) -> pb.ModelVersion:  # noqa: N802
        async with open_call(context, self._core):
            return admin_wire.version_message(await self._core.lifecycle.unload(request.model))

    async def SetAlias(self, request: pb.SetAliasRequest, context: Context) -> pb.ModelAlias:  # noqa: N802
        async with open_call(context, self._core):
            targets = admin_wire.target_values(request.targets)
            return admin_wire.alias_message(self._core.lifecycle.set_alias(request.alias, targets))

    async def RollBack(self, request: pb.RollBackRequest, context: Context) -> pb.ModelAlias:  # noqa: N802
        async with open_call(context, self._core):
            return admin_wire.alias_message(self._core.lifecycle.roll_back(request.alias))
