"""Tokens, rights and quotas over both fronts, with the clients of the SDK and without."""

import asyncio
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rankport.protos.errors import (
    InvalidRequest,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    Unauthenticated,
)
from rankport.protos.kserve import kserve_pb2
from rankport.protos.messages.streamed import ScoreCall
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.server.http.routes import ROUTES
from rankport.runtime.server.security.config import SecurityConfig
from rankport.runtime.server.security.tokens import Limits, Right, line_of, new_token
from rankport.runtime.server.server import Server
from rankport.sdk.aio_client import AsyncClient
from rankport.sdk.client import Client
from support.servers.reference_bundles import load_reference, reference_bundle
from support.servers.serving import LOCAL, Serving, serving

NO_QUOTA = Limits()
PREFIX, ITEMS = "a", ["b", "c"]


@dataclass(frozen=True, slots=True)
class Guarded:
    served: Serving
    caller: str
    admin: str
    small: str  # has a quota of 5 items a second and one request
    bulk: str  # has a quota of 20 items a second
    slow: dict[str, str]  # by whose test it is: each has a quota of 36 items an hour, which no test waits for

    def client(self, token: str | None, *, retry: bool = False) -> Client:
        return Client(self.served.address, token=token, timeout_s=10, retry=retry)


def line(token: str, right: Right, limits: Limits = NO_QUOTA) -> str:
    return line_of(token, [right], limits) + "\n"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    caller, admin, small, bulk = map(new_token, ("caller", "admin", "small", "bulk"))
    slow = {way: new_token(way) for way in ("grpc", "http", "stream")}
    file = tmp_path_factory.mktemp("clients") / "clients.txt"
    file.write_text(
        line(caller, "call")
        + line(admin, "admin")
        + line(small, "call", Limits(5, 1))
        + line(bulk, "call", Limits(20))
        + "".join(line(token, "call", Limits(0.01, 1)) for token in slow.values())
    )
    with serving(replace(LOCAL, http_port=0, security=SecurityConfig(token_file=str(file)))) as served:
        yield Guarded(served, caller, admin, small, bulk, slow)


def test_calls_need_a_token_that_is_known(guarded: Guarded) -> None:
    with guarded.client(guarded.caller) as client:
        assert len(client.score(PREFIX, ITEMS).scores) == 2
        assert [len(row) for row in client.encode(ITEMS)]
        assert [text.id for text in client.encode_stream([("1", "x")])] == ["1"]
        assert client.submit(PREFIX, ITEMS).result() is not None
    for token in (None, "caller.wrong"):
        with guarded.client(token) as client, pytest.raises(Unauthenticated):
            client.score(PREFIX, ITEMS)
        with guarded.client(token) as client, pytest.raises(Unauthenticated):
            list(client.encode_stream([("1", "x")]))


def test_a_token_may_be_renewed_between_calls(guarded: Guarded) -> None:
    tokens = iter((guarded.caller, "caller.old", guarded.caller))
    with Client(guarded.served.address, token=lambda: next(tokens), timeout_s=10) as client:
        assert client.models()
        with pytest.raises(Unauthenticated):
            client.models()
        assert client.models()
    with pytest.raises(InvalidRequest, match="characters that a header"):
        guarded.client("two words")


def test_the_client_for_asyncio_sends_its_token_too(guarded: Guarded) -> None:
    async def answered() -> None:
        async with AsyncClient(guarded.served.address, token=guarded.caller, timeout_s=10) as client:
            assert len((await client.score(PREFIX, ITEMS)).scores) == 2
            assert [text.id async for text in client.encode_stream(_pairs())] == ["1"]
        async with AsyncClient(guarded.served.address, timeout_s=10) as client:
            with pytest.raises(Unauthenticated):
                await client.score(PREFIX, ITEMS)

    asyncio.run(answered())


async def _pairs() -> AsyncIterator[tuple[str, str]]:
    yield "1", "x"


def test_rights_are_apart(guarded: Guarded) -> None:
    with guarded.client(guarded.caller) as client, pytest.raises(PermissionDenied, match="'admin'"):
        client.admin.versions()
    with guarded.client(guarded.caller) as client, pytest.raises(PermissionDenied, match="'admin'"):
        client.jobs.list()
    with guarded.client(guarded.admin) as client:
        assert client.admin.versions().versions
        with pytest.raises(PermissionDenied, match="client admin does not have the right 'call'"):
            client.score(PREFIX, ITEMS)


def test_health_answers_without_a_token(guarded: Guarded) -> None:
    with grpc.insecure_channel(guarded.served.address) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        service = "/inference.GRPCInferenceService/"
        ready = channel.unary_unary(service + "ServerReady")(b"", timeout=10)
        assert kserve_pb2.ServerReadyResponse.FromString(ready).ready
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary(service + "ServerMetadata")(b"", timeout=10)
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]


def test_a_call_without_a_right_is_refused_before_its_message_is_sent(guarded: Guarded) -> None:
    with grpc.insecure_channel(guarded.served.address) as channel:
        score = channel.stream_unary("/rankport.v1.Scoring/Score")  # which may send none
        call = score.future(iter(()), timeout=10)
        assert call.code() is grpc.StatusCode.UNAUTHENTICATED
    before = guarded.served.server.counts.snapshot()["invalid"]
    with guarded.client(None) as client, pytest.raises(Unauthenticated):
        client.score("x" * 1_000_000, ITEMS)
    assert guarded.served.server.counts.snapshot()["invalid"] == before + 1


def test_a_quota_is_refused_with_the_time_to_come_back(guarded: Guarded) -> None:
    with guarded.client(guarded.slow["grpc"]) as client:
        client.score(PREFIX, ["x"] * 6)
        with pytest.raises(
            QuotaExceeded, match=r"client grpc had more than its quota of 0\.01 items a second"
        ) as raised:
            client.score(PREFIX, ["x"])
    told_s = seconds_told(str(raised.value))
    assert told_s - 0.01 <= (raised.value.retry_after_s or 0) <= 1.1 * told_s + 0.01
    with guarded.client(guarded.caller) as client:  # others go on
        client.score(PREFIX, ITEMS)


def seconds_told(message: str) -> float:
    """When to come back, as a refusal has it in words."""
    told = re.search(r"retry in (\S+) s", message)
    assert told is not None
    return float(told[1])


def test_a_quota_is_waited_out(guarded: Guarded) -> None:
    with guarded.client(guarded.small, retry=True) as client:
        client.score(PREFIX, ["x"] * 6)
        assert len(client.score(PREFIX, ["x"]).scores) == 1


def test_a_quota_of_tokens_counts_what_models_read_of_prefix_and_items(tmp_path: Path) -> None:
    token, file = new_token("reader"), tmp_path / "clients.txt"
    file.write_text(line(token, "call", Limits(tokens_per_s=0.01)))
    config = replace(LOCAL, security=SecurityConfig(token_file=str(file)))
    bundle = reference_bundle(tmp_path / "bundle", "jobs", "1", 1)
    with (
        load_reference(open_bundle(bundle)) as ranker,
        Server({"jobs": ranker}, config) as server,
        Client(server.address, token=token, timeout_s=10, retry=False) as client,
    ):
        usage = client.score("red shoes", ["blue boots"] * 40).usage
        read = usage.prefix_tokens_computed + usage.prefix_tokens_cached + usage.item_tokens
        assert read > 100
        with pytest.raises(QuotaExceeded, match=r"quota of 0\.01 tokens a second") as raised:
            client.score("red shoes", ["blue boots"])
        owed_s = (read + 1 - 0.01) / 0.01  # since the first was done with; a token is 100 s
        assert owed_s - 99 < seconds_told(str(raised.value)) <= owed_s + 0.01


def get(address: str, path: str, token: str = "", body: object = None) -> tuple[int, dict[str, str]]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    data = None if body is None else json.dumps(body).encode()
    if data:
        headers["content-type"] = "application/json"
    request = urllib.request.Request(f"http://{address}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers)


def test_http_has_the_same_guard(guarded: Guarded) -> None:
    address = guarded.served.server.http_address
    body = {"query": "a", "documents": ["b"]}
    status, headers = get(address, "/v1/rerank", body=body)
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert headers["rankport-error"] == "Unauthenticated"
    assert get(address, "/v1/rerank", guarded.admin, body)[0] == 403
    assert get(address, "/v1/rerank", guarded.caller, body)[0] == 200
    for path in ("/", "/metrics", "/v1/models"):
        assert get(address, path)[0] == 401
        assert get(address, path, guarded.caller)[0] == 200
    for path in ("/health", "/health/live", "/docs"):
        assert get(address, path)[0] == 200


def test_http_has_the_same_quota(guarded: Guarded) -> None:
    address = guarded.served.server.http_address
    body = {"query": "a", "documents": ["b"] * 40}
    answers = [get(address, "/v1/rerank", guarded.slow["http"], body) for _ in range(2)]
    assert answers[0][0] == 200
    status, headers = answers[-1]
    assert status == 429
    assert headers["rankport-error"] == "QuotaExceeded"
    assert 3_000_000 < int(headers["retry-after-ms"]) < 4_600_000


def test_admin_calls_have_a_port_of_their_own() -> None:
    with serving(replace(LOCAL, security=SecurityConfig(admin_port=0))) as served:
        with Client(served.server.admin_address, timeout_s=10) as client:
            assert client.admin.versions().versions
            with pytest.raises(Exception, match="UNIMPLEMENTED"):
                client.models()
        with Client(served.address, timeout_s=10) as client:
            assert client.models()
            with pytest.raises(Exception, match=r"UNIMPLEMENTED: .* switched at its --admin-port"):
                client.admin.versions()


def test_what_is_not_there_is_told_to_those_who_may_ask(guarded: Guarded) -> None:
    with guarded.client(guarded.caller) as client, pytest.raises(NotFound):
        client.describe("none")


def test_a_file_of_clients_that_cannot_be_used_keeps_the_server_from_starting(tmp_path: Path) -> None:
    config = replace(LOCAL, security=SecurityConfig(token_file=str(tmp_path / "none")))
    with pytest.raises(InvalidRequest, match=r"token_file .*none cannot be read"), serving(config):
        pass
    with (
        pytest.raises(InvalidRequest, match=r"host 0\.0\.0\.0 is reached by others"),
        serving(replace(LOCAL, host="0.0.0.0")),
    ):
        pass


def test_a_stream_is_slowed_down_to_the_quota(guarded: Guarded) -> None:
    texts = [(str(number), "x") for number in range(36)]
    with guarded.client(guarded.bulk) as client:
        begun_s = time.monotonic()
        answers = list(client.encode_stream(texts, timeout_s=10, chunk_texts=12))
        taken_s = time.monotonic() - begun_s
    assert [answer.id for answer in answers] == [text for text, _ in texts]
    assert taken_s > 0.2  # 24 of 20 items a second are taken; the last 12 wait until 5 more are earned


def test_messages_of_a_stream_of_scores_count_as_requests(guarded: Guarded) -> None:
    with guarded.client(guarded.slow["stream"]) as client:
        calls = [ScoreCall(str(number), PREFIX, ["x"] * 50) for number in range(2)]
        first, second = client.score_stream(calls, timeout_s=10, window=1)
    assert isinstance(second.error, QuotaExceeded)
    assert (second.error.retry_after_s or 0) > 1
    assert first.error is None


def test_every_method_of_every_service_is_guarded(guarded: Guarded) -> None:
    methods = {
        f"/{service.full_name}/{method.name}"
        for service in pb.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    (wire,) = kserve_pb2.DESCRIPTOR.services_by_name.values()
    methods |= {f"/inference.{wire.name}/{method.name}" for method in wire.methods}
    answered = {}
    with grpc.insecure_channel(guarded.served.address) as channel:
        for method in methods:
            call = channel.stream_stream(method)(iter([b""]), timeout=10)
            with suppress(grpc.RpcError):
                list(call)
            answered[method] = call.code()
    open_to_all = {method for method, code in answered.items() if code is not grpc.StatusCode.UNAUTHENTICATED}
    assert open_to_all == {f"/inference.{wire.name}/ServerLive", f"/inference.{wire.name}/ServerReady"}


def test_every_endpoint_of_http_is_guarded(guarded: Guarded) -> None:
    address = guarded.served.server.http_address
    assert {path: get(address, path, body={})[0] for path in ROUTES} == dict.fromkeys(ROUTES, 401)
