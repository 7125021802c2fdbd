"""Service `Tagging`."""

from concurrent.futures import Future

from rankport.protos.messages import tag_wire
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.scheduling.futures import converted
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.calls import Context, answering, fitting, request_id


class TaggingService(pb_grpc.TaggingServicer):
    """Answers Tag with the models of a server that tag."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def Tag(self, request: pb.TagRequest, context: Context) -> pb.TagResponse:  # noqa: N802
        async with answering(context, self._core, request):
            served = self._core.models.tagger(request.model, request_id(context))

            def submit(timeout_s: float | None) -> Future[pb.TagResponse]:
                query = tag_wire.tag_query(request)
                future = served.model.submit(
                    query.texts, timeout_s, truncation=query.truncation, stride=query.stride
                )
                return converted(
                    future, lambda result: tag_wire.tag_response(result, query.texts, query.unit)
                )

            with served:
                response = await self._core.submitter.run(submit, context.time_remaining())
            return fitting(response, self._core)
