"""A client's calls belong to the span that its application is in."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from opentelemetry import context, trace

from rankport.protos.v1 import rankport_pb2 as pb
from rankport.sdk.aio_client import AsyncClient
from rankport.sdk.client import Client
from rankport.sdk.transport.tracing import trace_metadata

TRACE, SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
TRACEPARENT = f"00-{TRACE:032x}-{SPAN:016x}-01"


@contextmanager
def in_a_span() -> Iterator[None]:
    of = trace.SpanContext(TRACE, SPAN, is_remote=False, trace_flags=trace.TraceFlags(1))
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(of)))
    try:
        yield
    finally:
        context.detach(token)


@pytest.fixture
def seen() -> Iterator[tuple[str, list[str]]]:
    """A server that knows one method, and the traces that its calls said."""
    traces: list[str] = []

    def listed(request: pb.ListModelsRequest, call: grpc.ServicerContext) -> pb.ListModelsResponse:
        traces.append(dict(call.invocation_metadata()).get("traceparent", ""))
        return pb.ListModelsResponse()

    handler = grpc.unary_unary_rpc_method_handler(
        listed, pb.ListModelsRequest.FromString, pb.ListModelsResponse.SerializeToString
    )
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("rankport.v1.Models", {"List": handler}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}", traces
        server.stop(0).wait()


def test_calls_say_the_trace_of_the_span_they_are_made_in(seen: tuple[str, list[str]]) -> None:
    address, traces = seen
    with Client(address) as client:
        client.models()
        with in_a_span():
            client.models()
    assert traces == ["", TRACEPARENT]


def test_so_do_those_of_asyncio(seen: tuple[str, list[str]]) -> None:
    address, traces = seen

    async def go() -> None:
        async with AsyncClient(address) as client:
            await client.models()

    with in_a_span():
        asyncio.run(go())
    assert traces == [TRACEPARENT]


def test_an_application_without_opentelemetry_is_in_no_span() -> None:
    with in_a_span():
        assert trace_metadata(modules={}) is None
        assert trace_metadata(model="ranker@2", modules={}) == (("x-model", "ranker@2"),)
        assert trace_metadata(model="größe", modules={}) is None  # no metadata: the message says it
        assert trace_metadata() == (("traceparent", TRACEPARENT),)
