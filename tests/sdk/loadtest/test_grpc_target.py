"""gRPC servers under load: what a call says before its message."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from rankport.protos.errors import InvalidRequest
from rankport.sdk.loadtest.grpc_target import GrpcTarget
from rankport.sdk.loadtest.requests import SCORE, LoadRequest, drawn_requests
from rankport.sdk.loadtest.result import Ended


class Metadata(grpc.GenericRpcHandler):
    """Answers every call with its metadata, a name and a value a line."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        said = "\n".join(f"{name} {value}" for name, value in details.invocation_metadata)
        return grpc.unary_unary_rpc_method_handler(lambda *_: said.encode())


def sent(request: LoadRequest) -> list[str]:
    """Sends a request, and gives the metadata that came."""
    server = grpc.server(ThreadPoolExecutor(1), [Metadata()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    async def send() -> Ended:
        target = GrpcTarget(f"127.0.0.1:{port}", 1, 10.0, token="secret")
        ended = await target.send(request, "background")
        await target.close()
        return ended

    ended = asyncio.run(send())
    server.stop(None).wait()
    assert ended.status == "OK", ended
    return ended.reply.decode().splitlines()


@pytest.mark.parametrize(("model", "named"), [("jobs@2", ["x-model jobs@2"]), ("", []), ("größe", [])])
def test_a_call_names_its_model_as_a_client_does(model: str, named: list[str]) -> None:
    (request,) = drawn_requests(["q"], ["a", "b"], 2, keys=False, model=model, seed=0, count=1)
    assert (request.method, request.items) == (SCORE, 2)
    said = sent(request)
    assert [line for line in said if line.startswith("x-model")] == named
    assert {"x-priority background", "authorization Bearer secret"} <= set(said)


def test_a_token_that_no_metadata_takes_is_refused() -> None:
    """Each request of the test would have failed in gRPC, and counted as one that was not sent."""
    with pytest.raises(InvalidRequest, match="token has characters that a header does not take"):
        GrpcTarget("localhost:1", 1, 10.0, token="a\nb")
