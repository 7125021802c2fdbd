"""Service `Tagging`."""

from concurrent.futures import Future

from rankport.protos import tag_wire
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.scheduling.futures import converted
from rankport.runtime.server.calls import Calls, Context
from rankport.runtime.server.models import ServedModels
from rankport.runtime.server.submitter import Submitter


class TaggingService(pb_grpc.TaggingServicer):
    """Answers Tag with the models of a server that tag."""

    def __init__(self, models: ServedModels, calls: Calls, submitter: Submitter) -> None:
        self._models = models
        self._calls = calls
        self._submitter = submitter

    async def Tag(self, request: pb.TagRequest, context: Context) -> pb.TagResponse:  # noqa: N802
        async with self._calls.answering(context):
            tagger = self._models.tagger(request.model).model

            def submit(timeout_s: float | None) -> Future[pb.TagResponse]:
                query = tag_wire.tag_query(request)
                future = tagger.submit(
                    query.texts, timeout_s, truncation=query.truncation, stride=query.stride
                )
                return converted(
                    future, lambda result: tag_wire.tag_response(result, query.texts, query.unit)
                )

            return await self._submitter.run(submit, context.time_remaining())
