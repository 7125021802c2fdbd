"""Service `Models`."""

from rankport.protos import wire
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.server.calls import Calls, Context
from rankport.runtime.server.models import ServedModels


class ModelsService(pb_grpc.ModelsServicer):
    """Describes the models of a server."""

    def __init__(self, models: ServedModels, calls: Calls) -> None:
        self._models = models
        self._calls = calls

    async def List(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: N802
        async with self._calls.answering(context):
            descriptions = self._models.descriptions()
            return pb.ListModelsResponse(models=map(wire.description_message, descriptions))

    async def Describe(self, request: pb.DescribeModelRequest, context: Context) -> pb.ModelDescription:  # noqa: N802
        async with self._calls.answering(context):
            return wire.description_message(self._models.description(request.model))
