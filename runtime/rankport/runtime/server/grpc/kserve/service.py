"""Service `GRPCInferenceService`."""

import time
from typing import Any

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.kserve import kserve_pb2 as pb
from rankport.protos.kserve import kserve_pb2_grpc as pb_grpc
from rankport.protos.messages.request_size import RequestSize
from rankport.protos.packages import VERSION
from rankport.protos.types import ModelDescription
from rankport.protos.wording import repeated
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.calls import Context, fitting, open_call, request_id
from rankport.runtime.server.grpc.kserve.metadata import config_of, metadata_of, statistics_of
from rankport.runtime.server.grpc.kserve.parameters import check_tensors, options_of
from rankport.runtime.server.grpc.kserve.tasks import Task, task_of, tasks_of
from rankport.runtime.server.grpc.kserve.tensors import Tensors, add_output
from rankport.runtime.server.models import Served
from rankport.runtime.server.statistics import ModelTotals

_EXTENSIONS = ("statistics", "model_configuration")
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
            found = self._find(request.name, request.version)
            version = f"{found.description.name}@{found.description.version}"
            return pb.ModelReadyResponse(ready=found.model.alive and self._core.ready(version))

    async def ServerMetadata(  # noqa: N802
        self, request: pb.ServerMetadataRequest, context: Context
    ) -> pb.ServerMetadataResponse:
        async with open_call(context, self._core):
            return pb.ServerMetadataResponse(name="rankport", version=VERSION, extensions=_EXTENSIONS)

    async def ModelMetadata(  # noqa: N802
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        async with open_call(context, self._core):
            served = self._find(request.name, request.version)
            return metadata_of(served.description, tasks_of(served))

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:  # noqa: N802
        async with open_call(context, self._core):
            served = self._find(request.name, request.version)
            return pb.ModelConfigResponse(config=config_of(served.description, tasks_of(served)))

    async def ModelStatistics(  # noqa: N802
        self, request: pb.ModelStatisticsRequest, context: Context
    ) -> pb.ModelStatisticsResponse:
        """Gives the statistics of one model, or of all where none is named."""
        async with open_call(context, self._core):
            models = self._core.models.descriptions()
            if request.name:
                models = (self._find(request.name, request.version).description,)
            statistics = [statistics_of(model, self._totals(model)) for model in models]
            return pb.ModelStatisticsResponse(model_stats=statistics)

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:  # noqa: N802
        async with open_call(context, self._core):
            nbytes = request.ByteSize()
            self._core.limits.check_bytes(nbytes)
            served = self._find(request.model_name, request.model_version, request_id(context))
            totals = self._totals(served.description)
            with served, totals.timed(), self._core.admission.admitted(nbytes):
                return fitting(await self._infer(served, request, context), self._core)

    async def _infer(
        self, served: Served[Any], request: pb.ModelInferRequest, context: Context
    ) -> pb.ModelInferResponse:
        check_tensors(request)
        tensors = Tensors.of(request)
        asked = [output.name for output in request.outputs]
        if twice := repeated(asked):  # each is a copy of the answer: a few bytes could ask for gigabytes
            raise InvalidRequest(f"output {twice[0]!r:.60} is asked for twice: ask for it once")
        task = task_of(served, set(tensors.by_name), set(asked))
        options = options_of(task, request.parameters)
        size = _size(task, tensors)
        self._core.limits.check(size)
        self._core.admission.charge(size.items)
        result = await self._core.submitter.run(
            lambda timeout_s: task.submit(self._core.scoring, served, tensors, options, timeout_s),
            context.time_remaining(),
        )
        begun_s = time.perf_counter()
        response = _response(served, request, task, result, asked)
        totals = self._totals(served.description)
        totals.write.add(time.perf_counter() - begun_s)
        usage = task.usage(result)
        if usage is not None:
            totals.add_usage(usage)
        return response

    def _totals(self, model: ModelDescription) -> ModelTotals:
        return self._core.statistics.of(f"{model.name}@{model.version}")

    def _find(self, name: str, version: str, request_id: str = "") -> Served[Any]:
        models = self._core.models
        served = models.version(name, version) or models.any(name, request_id)
        if version not in ("", served.description.version):
            raise NotFound(
                f"model {served.description.name!r} has version {served.description.version!r}, not {version!r:.60}"
            )
        return served


def _size(task: Task, tensors: Tensors) -> RequestSize:
    items = max(tensors.claimed(name, axes=1) for name in task.rows)
    return RequestSize(items, tensors.claimed("item_embeddings", axes=2))


def _response(
    served: Served[Any], request: pb.ModelInferRequest, task: Task, result: Any, asked: list[str]
) -> pb.ModelInferResponse:
    model = served.description
    response = pb.ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
    for name in ("fingerprint", "score_kind", "read_out"):
        if getattr(model, name):
            response.parameters[name].string_param = getattr(model, name)
    outputs = task.answer(result)
    for name in asked or outputs:
        add_output(response, name, outputs[name])
    return response
