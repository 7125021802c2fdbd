"""Service `Classification`."""

from concurrent.futures import Future

from rankport.protos.classes import ClassifyResult
from rankport.protos.messages import class_wire
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.calls import Context, answering, fitting, request_id


class ClassificationService(pb_grpc.ClassificationServicer):
    """Answers Classify with the models of a server that classify."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:  # noqa: N802
        async with answering(context, self._core, request):
            served = self._core.models.classifier(request.model, request_id(context))

            def submit(timeout_s: float | None) -> Future[ClassifyResult]:
                query = class_wire.classify_query(request)
                return served.model.submit_classify(
                    query.texts, query.prefix, timeout_s, truncation=query.truncation
                )

            with served:
                result = await self._core.submitter.run(submit, context.time_remaining())
            return fitting(class_wire.classify_response(result), self._core)
