"""Spans of calls: within the client's trace, with a child for each phase."""

import asyncio
import sys
from collections.abc import Mapping
from concurrent.futures import Future

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from rankport.protos.errors import InvalidRequest, Overloaded
from rankport.protos.generation import GenerateResult, GenerateUsage
from rankport.runtime.server.admission import Admission
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.counts import Outcome
from rankport.runtime.server.observing.call import WorkingFor
from rankport.runtime.server.observing.config import ObservingConfig
from rankport.runtime.server.observing.exporting import check_traces, traces_exported
from rankport.runtime.server.observing.observer import Observer
from rankport.runtime.server.observing.tracing import Tracing
from rankport.runtime.server.submitter import Submitter
from support.servers.http import ask
from support.servers.serving import HTTP, serving

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
MODEL = {
    "gen_ai.provider.name": "rankport",
    "gen_ai.request.model": "ranker",
    "gen_ai.response.model": "ranker@1",
}


def own_of_models(attributes: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in attributes.items() if name.startswith("gen_ai.")}


def spans(
    headers: dict[str, str], fails: bool = False, answer: object = "answer", does: str = ""
) -> dict[str, ReadableSpan]:
    """Has a call go its way from a front to a model and back; gives its spans by name."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    observer = Observer(ObservingConfig(), Tracing(provider))

    def submit(timeout_s: float | None) -> "Future[object]":
        if fails:
            raise Overloaded("full")
        future: Future[object] = Future()
        future.set_result(answer)
        return future

    async def go() -> None:
        admission, submitter = Admission(ServerConfig(), observer), Submitter(1)
        call = observer.begin("grpc", "Scoring.Score", headers.items())
        if does:
            call.does, call.asked, call.model = does, "ranker", "ranker@1"
        with WorkingFor(call), admission.counted(lambda: Outcome.CANCELLED), admission.admitted(7):
            await submitter.run(submit, None)
        submitter.close(wait=True)

    if fails:
        with pytest.raises(Overloaded):
            asyncio.run(go())
    else:
        asyncio.run(go())
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_call_is_a_span_of_its_clients_trace_with_its_phases_in_turn() -> None:
    made = spans({"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "order-17"})
    call = made["Scoring.Score"]
    assert call.kind is SpanKind.SERVER
    assert f"{call.context.trace_id:032x}" == TRACE
    assert call.parent is not None
    assert f"{call.parent.span_id:016x}" == PARENT
    assert call.attributes is not None
    assert (call.attributes["rankport.request_id"], call.attributes["rankport.bytes"]) == ("order-17", 7)
    said = {name: value for name, value in call.attributes.items() if name.startswith(("rpc.", "error."))}
    assert said == {
        "rpc.system": "grpc",
        "rpc.service": "Scoring",
        "rpc.method": "Score",
        "rpc.grpc.status_code": 0,
    }
    phases = [made[name] for name in ("thread", "tokenize", "engine")]
    assert [phase.parent.span_id for phase in phases if phase.parent] == [call.context.span_id] * 3
    times = [(phase.start_time or 0, phase.end_time or 0) for phase in phases]
    assert times == sorted(times)


def test_a_text_that_is_written_tells_its_tokens_and_times() -> None:
    text = GenerateResult("a", (7,), "stop", GenerateUsage(3, 2, 4, 0.25, 0.5, 0.75))
    made = spans({}, answer=text, does="generates")
    said = made["Scoring.Score"].attributes or {}
    names = ("prefix_tokens_cached", "prefix_tokens_computed", "item_tokens", "queue_ms", "compute_ms")
    assert [said[f"rankport.{name}"] for name in names] == [3, 2, 4, 500.0, 750.0]
    assert (made["engine"].attributes or {})["rankport.compute_s"] == 0.75
    assert own_of_models(said) == MODEL | {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.output_tokens": 4,
    }


def test_a_call_without_a_trace_begins_one() -> None:
    call = spans({})["Scoring.Score"]
    assert call.parent is None
    assert call.context.trace_id


def test_a_refusal_says_its_status() -> None:
    call = spans({}, fails=True)["Scoring.Score"]
    assert call.attributes is not None
    assert call.attributes["rankport.code"] == call.attributes["error.type"] == "RESOURCE_EXHAUSTED"
    assert call.attributes["rpc.grpc.status_code"] == 8
    assert call.status.status_code is StatusCode.UNSET  # it is no fault of the server


def test_spans_of_http_are_named_by_verb_and_route_and_say_what_was_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    with serving(HTTP) as served:
        address = served.server.http_address
        for body in ({"query": "a", "texts": ["b"]}, {"query": "a"}, None):
            ask(address, "/rerank", body)
        ask(address, "/private", {})
    said = [(span.name, span.attributes or {}) for span in exporter.get_finished_spans()]
    (model, *_) = [own_of_models(given) for _, given in said if "rankport.front" in given]
    assert model == MODEL | {
        "gen_ai.operation.name": "rerank",
        "gen_ai.usage.input_tokens": 1 + 2 + 1,
        "gen_ai.usage.cache_read.input_tokens": 1,
    }
    calls = [(name, given["http.response.status_code"]) for name, given in said if "rankport.front" in given]
    assert calls == [("POST /rerank", 200), ("POST /rerank", 400), ("GET /rerank", 405), ("POST", 404)]
    assert [given["http.route"] for _, given in said if "http.route" in given] == ["/rerank"] * 3


def test_without_a_provider_nothing_is_made() -> None:
    assert Tracing().span_of("Scoring.Score", {"traceparent": f"00-{TRACE}-{PARENT}-01"}) is None


def test_spans_go_nowhere_unless_the_environment_says_where() -> None:
    with traces_exported({}) as exported:
        assert not exported


def test_what_is_exported_in_no_such_way_is_told(caplog: pytest.LogCaptureFixture) -> None:
    enter_exported({"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_LOGS_EXPORTER": "none"})
    assert not caplog.messages
    enter_exported({"OTEL_METRICS_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp"})
    metrics, logs = caplog.messages
    assert metrics.startswith(
        "OTEL_METRICS_EXPORTER is 'otlp', which rankport does nothing about: have a collector"
    )
    assert logs.startswith("OTEL_LOGS_EXPORTER is 'otlp'")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin': give otlp, console or none"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is 'http/json': give grpc or http/protobuf",
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            },
            "_PROTOCOL is 'http/protobuf': pip install opentelemetry-exporter-otlp-proto-http, or give grpc",
        ),
    ],
)
def test_what_the_environment_asks_for_in_vain_is_refused_by_name(
    environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    for use in (check_traces, enter_exported):
        with pytest.raises(InvalidRequest, match=message):
            use(environment)


def enter_exported(environment: dict[str, str]) -> None:
    with traces_exported(environment):
        pass
