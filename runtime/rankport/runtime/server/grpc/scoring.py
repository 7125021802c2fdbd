"""Service `Scoring`."""

from collections.abc import AsyncIterator
from concurrent.futures import Future

from rankport.protos import wire
from rankport.protos.errors import InvalidRequest
from rankport.protos.types import ScoreResult
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.calls import Context, answering, fitting, open_call, request_id

_QUICK_FORMS = ("embeddings", "token_ids")
_QUICK_BYTES, _QUICK_PREFIX_BYTES = 2**20, 2**10


def is_quick(request: pb.ScoreRequest) -> bool:
    """Says whether a request is read in less time than a thread takes to begin: no text of items, no store, no size."""
    return (
        request.items.WhichOneof("form") in _QUICK_FORMS
        and request.ByteSize() <= _QUICK_BYTES
        and request.prefix.ByteSize() <= _QUICK_PREFIX_BYTES
    )


class ScoringService(pb_grpc.ScoringServicer):
    """Answers Score with the models of a server that score."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:  # noqa: N802
        async with answering(context, self._core, request):
            served = self._core.models.scorer(request.model, request_id(context))

            def submit(timeout_s: float | None) -> Future[ScoreResult]:
                return self._core.scoring.submit(served, wire.score_query(request), timeout_s)

            remaining_s = context.time_remaining()
            with served:
                result = await self._core.submitter.run(submit, remaining_s, in_loop=is_quick(request))
            return fitting(wire.score_response(result), self._core)

    async def ScoreStream(  # type: ignore[override]  # noqa: N802
        self, requests: AsyncIterator[pb.ScoreStreamRequest], context: Context
    ) -> None:
        async with open_call(context, self._core):
            raise InvalidRequest("this release answers no ScoreStream yet: use Score")
