"""Service `GRPCInferenceService` of KServe's inference protocol v2."""

from rankport.protos.installed.packages import VERSION
from rankport.protos.kserve import kserve_pb2 as pb
from rankport.protos.kserve import kserve_pb2_grpc as pb_grpc
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.calls import Context, fitting, open_call, request_id
from rankport.runtime.server.kserve.inference import find, infer, is_ready, totals_of
from rankport.runtime.server.kserve.metadata import EXTENSIONS, config_of, metadata_of, statistics_of
from rankport.runtime.server.kserve.tasks import tasks_of

PROBES = frozenset(("ServerLive", "ServerReady"))  # without a token, as those of health
SERVICE_NAME = "inference.GRPCInferenceService"


class KserveService(pb_grpc.GRPCInferenceServiceServicer):
    """Answers the protocol with the models of a server, by what each can do."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:  # noqa: N802
        async with open_call(context, self._core):
            return pb.ServerLiveResponse(live=self._core.live())

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:  # noqa: N802
        async with open_call(context, self._core):
            return pb.ServerReadyResponse(ready=self._core.ready())

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:  # noqa: N802
        async with open_call(context, self._core):
            found = find(self._core, request.name, request.version)
            return pb.ModelReadyResponse(ready=is_ready(self._core, found))

    async def ServerMetadata(  # noqa: N802
        self, request: pb.ServerMetadataRequest, context: Context
    ) -> pb.ServerMetadataResponse:
        async with open_call(context, self._core):
            return pb.ServerMetadataResponse(name="rankport", version=VERSION, extensions=EXTENSIONS)

    async def ModelMetadata(  # noqa: N802
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        async with open_call(context, self._core):
            served = find(self._core, request.name, request.version)
            return metadata_of(served.description, tasks_of(served))

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:  # noqa: N802
        async with open_call(context, self._core):
            served = find(self._core, request.name, request.version)
            return pb.ModelConfigResponse(config=config_of(served.description, tasks_of(served)))

    async def ModelStatistics(  # noqa: N802
        self, request: pb.ModelStatisticsRequest, context: Context
    ) -> pb.ModelStatisticsResponse:
        """Gives the statistics of one model, or of all where none is named."""
        async with open_call(context, self._core):
            models = self._core.models.descriptions()
            if request.name:
                models = (find(self._core, request.name, request.version).description,)
            statistics = [statistics_of(model, totals_of(self._core, model)) for model in models]
            return pb.ModelStatisticsResponse(model_stats=statistics)

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:  # noqa: N802
        async with open_call(context, self._core):
            nbytes = request.ByteSize()
            self._core.limits.check_bytes(nbytes)
            served = find(self._core, request.model_name, request.model_version, request_id(context))
            totals = totals_of(self._core, served.description)
            with served, totals.timed(), self._core.admission.admitted(nbytes):
                return fitting(await infer(self._core, served, request, context.time_remaining()), self._core)
