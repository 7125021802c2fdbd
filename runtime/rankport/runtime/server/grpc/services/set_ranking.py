"""Service `SetRanking`."""

from concurrent.futures import Future

from rankport.protos.messages import set_wire
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.scheduling.futures import converted
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.calls import Context, answering, fitting, request_id


class SetRankingService(pb_grpc.SetRankingServicer):
    """Answers Rank with the models of a server that rank sets."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def Rank(self, request: pb.RankRequest, context: Context) -> pb.RankResponse:  # noqa: N802
        async with answering(context, self._core, request):
            served = self._core.models.set_ranker(request.model, request_id(context))

            def submit(timeout_s: float | None) -> Future[pb.RankResponse]:
                future = served.model.submit_rank(set_wire.rank_query(request), timeout_s)
                return converted(future, set_wire.rank_response)

            with served:
                response = await self._core.submitter.run(submit, context.time_remaining())
            return fitting(response, self._core)
