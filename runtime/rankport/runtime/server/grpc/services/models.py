"""Service `Models`."""

from rankport.protos.messages import wire
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.calls import Context, open_call


class ModelsService(pb_grpc.ModelsServicer):
    """Describes the models of a server."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def List(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: N802
        async with open_call(context, self._core):
            descriptions = self._core.models.descriptions()
            return pb.ListModelsResponse(
                models=map(wire.description_message, descriptions), limits=self._limits()
            )

    async def Describe(self, request: pb.DescribeModelRequest, context: Context) -> pb.ModelDescription:  # noqa: N802
        async with open_call(context, self._core):
            description = self._core.models.description(request.model)
            self._core.models.check_said(f"{description.name}@{description.version}", request.model)
            return wire.description_message(description)

    def _limits(self) -> pb.RequestLimits:
        limits = self._core.limits
        return pb.RequestLimits(items=limits.items, tokens=limits.tokens, message_bytes=limits.message_bytes)
