"""Service `Generation`."""

import asyncio
from concurrent.futures import Future

from rankport.protos.generation import GenerateResult
from rankport.protos.messages import generate_wire, search_wire
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.kinds.capabilities import GeneratingModel
from rankport.runtime.scheduling.futures import converted
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.calls import Context, answering, fitting, request_id
from rankport.runtime.server.models.models import Served
from rankport.runtime.server.submitter import Parts


class GenerationService(pb_grpc.GenerationServicer):
    """Answers Generate and Search with the models of a server that generate."""

    def __init__(self, core: Core) -> None:
        self._core = core

    # A coroutine that writes sees the call's cancellation; a generator, suspended at its yield, would not.
    async def Generate(self, request: pb.GenerateRequest, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        call = answering(context, self._core, request)
        async with call:
            served = self._core.models.generator(request.model, request_id(context))
            parts = Parts()
            with served:
                writing = asyncio.ensure_future(self._write(served, request, parts, context.time_remaining()))
                writing.add_done_callback(lambda _: parts.end())
                try:
                    async for several in parts:
                        await call.write(generate_wire.part_message(several))
                    result = await writing
                finally:
                    writing.cancel()
            await call.write(generate_wire.last_message(result, served.description.fingerprint))

    async def Search(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:  # noqa: N802
        async with answering(context, self._core, request):
            served = self._core.models.generator(request.model, request_id(context))

            def submit(left_s: float | None) -> Future[pb.SearchResponse]:
                query = search_wire.search_query(request)
                future = served.model.submit_search(
                    query.prompt,
                    query.trie,
                    left_s,
                    beams=query.beams,
                    top_k=query.top_k,
                    truncation=query.truncation,
                )
                fingerprint = served.description.fingerprint
                return converted(future, lambda found: search_wire.search_response(found, fingerprint))

            with served:
                response = await self._core.submitter.run(submit, context.time_remaining())
            return fitting(response, self._core)

    async def _write(
        self,
        served: Served[GeneratingModel],
        request: pb.GenerateRequest,
        parts: Parts,
        timeout_s: float | None,
    ) -> GenerateResult:
        def submit(left_s: float | None) -> Future[GenerateResult]:
            query = generate_wire.generate_query(request)
            return served.model.submit_generate(
                query.prompt, query.sampling, left_s, truncation=query.truncation, on_part=parts.put
            )

        return await self._core.submitter.run(submit, timeout_s)
