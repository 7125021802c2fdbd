"""Streams that outlast their client's token."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.services.scoring import ScoringService
from rankport.runtime.server.grpc.strict_server import StrictServer
from rankport.runtime.server.lifecycle.loader import NoLoader
from rankport.runtime.server.models.models import ServedModels
from rankport.runtime.server.security.guard import Guard
from rankport.runtime.server.security.tokens import Limits, line_of, new_token
from support.servers.deterministic_models import DeterministicRanker
from support.servers.serving import LOCAL

ASKED = pb.ScoreStreamRequest(
    request=pb.ScoreRequest(prefix=pb.Prefix(text="a"), items=pb.Items(texts=pb.Strings(values=["b"])))
)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_stream_ends_once_its_token_is_withdrawn(tmp_path: Path) -> None:
    token, file, clock = new_token("search"), tmp_path / "clients", Clock()
    file.write_text(line_of(token, ["call"], Limits()))
    ranker = DeterministicRanker()

    async def stream() -> None:
        core = Core.of(ServedModels({"ranker": ranker}, 0), NoLoader(), LOCAL)
        core = replace(core, guard=Guard(str(file), clock=clock))
        server = grpc.aio.server()
        strict: Any = StrictServer(server, core)
        pb_grpc.add_ScoringServicer_to_server(ScoringService(core), strict)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                call: Any = pb_grpc.ScoringStub(channel).ScoreStream(
                    metadata=[("authorization", f"Bearer {token}")], timeout=10
                )
                await call.write(ASKED)
                assert (await call.read()).response.scores.shape == [1]
                file.write_text("")
                clock.now_s += 1
                await call.write(ASKED)
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await call.read()
                assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
        finally:
            await server.stop(None)

    asyncio.run(stream())
    ranker.close()
