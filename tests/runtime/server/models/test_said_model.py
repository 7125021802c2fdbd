"""Models that the metadata or headers of a call say: they hold for a request without a name, and contradict none."""

from collections.abc import Iterator

import grpc
import pytest

from rankport.protos.messages import wire
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.protos.versions import MODEL_KEY, AliasTarget
from rankport.runtime.server.server import Server
from support.servers.deterministic_models import DeterministicRanker
from support.servers.http import ask
from support.servers.serving import HTTP

DOCUMENTS = {"query": "a", "documents": ["b"]}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of two rankers, one of which has another name beside its own."""
    models = {name: DeterministicRanker(name) for name in ("jobs", "people")}
    with Server(models, HTTP) as running:
        with grpc.insecure_channel(running.address) as channel:
            target = AliasTarget("people@1", 1.0)
            message = pb.AliasTarget(model=target.model, weight=target.weight)
            pb_grpc.ModelAdminStub(channel).SetAlias(pb.SetAliasRequest(alias="prod", targets=[message]))
        yield running
    for model in models.values():
        model.close()


def scored(server: Server, model: str, said: str) -> str:
    """Scores over gRPC, and tells the fingerprint of the model that answered, or what was wrong."""
    request = wire.score_request(model, "a", ["b"], "error", "skip")
    with grpc.insecure_channel(server.address) as channel:
        try:
            response = pb_grpc.ScoringStub(channel).Score(request, metadata=[(MODEL_KEY, said)], timeout=10)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        return str(response.fingerprint)


def described(server: Server, model: str, said: str) -> str:
    """Asks over gRPC what a model is, and tells its name, or what was wrong."""
    with grpc.insecure_channel(server.address) as channel:
        try:
            request = pb.DescribeModelRequest(model=model)
            answer = pb_grpc.ModelsStub(channel).Describe(request, metadata=[(MODEL_KEY, said)], timeout=10)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        return str(answer.name)


@pytest.mark.parametrize("said", ["people", "people@1", "prod"])
def test_a_request_without_a_name_is_for_the_model_that_is_said(server: Server, said: str) -> None:
    answer = ask(server.http_address, "/v1/rerank", DOCUMENTS, {MODEL_KEY: said})
    assert (answer.status, answer.headers["x-rankport-model"]) == (200, "people")
    assert scored(server, "", said) == scored(server, "people", said)
    assert scored(server, "", said).count(":") == 0
    assert described(server, "", said) == described(server, "people", said) == "people"


def test_without_either_the_request_names_no_model(server: Server) -> None:
    answer = ask(server.http_address, "/v1/rerank", DOCUMENTS)
    assert "the request names no model that scores, and this server has jobs, people, prod" in answer.text


@pytest.mark.parametrize("said", ["people", "prod"])
def test_two_names_of_one_model_do_not_contradict(server: Server, said: str) -> None:
    for name in ("people", "people@1", "prod"):
        answer = ask(server.http_address, "/v1/rerank", DOCUMENTS | {"model": name}, {MODEL_KEY: said})
        assert answer.status == 200, answer.text


@pytest.mark.parametrize("said", ["people", "prod", "nobody"])
def test_a_request_for_another_model_is_refused(server: Server, said: str) -> None:
    refusal = f"x-model is '{said}', and the request names 'jobs': name one of them"
    answer = ask(server.http_address, "/v1/rerank", DOCUMENTS | {"model": "jobs"}, {MODEL_KEY: said})
    assert (answer.status, answer.json["error"]["message"]) == (400, refusal)
    assert scored(server, "jobs", said) == f"INVALID_ARGUMENT: {refusal}"
    assert described(server, "jobs", said) == f"INVALID_ARGUMENT: {refusal}"


def test_a_model_that_there_is_not_is_told(server: Server) -> None:
    assert scored(server, "", "nobody").startswith("NOT_FOUND: no model that scores is named 'nobody'")
    assert described(server, "", "nobody").startswith("NOT_FOUND: no model is named 'nobody'")
