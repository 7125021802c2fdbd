"""Calls that a server does not take for now: which are made again, and how often."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import grpc
import numpy as np
import pytest

from rankport.protos.errors import DeadlineExceeded, PairingError, RequestCancelled, Unavailable
from rankport.protos.messages import wire
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.sdk import AsyncClient, Client, EncodeTask, ScoreCall
from rankport.sdk.generating import WrittenText
from rankport.sdk.transport.kept_messages import AsyncKeptMessages

TASK = EncodeTask(items="items.csv")
SOON = (("grpc-retry-pushback-ms", "1"),)
NOT_FOUND = pb.StreamError(name="NotFound", message="no model")


class Leaving(grpc.GenericRpcHandler):
    """Server that is about to stop, and counts who asks it."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.hint: tuple[tuple[str, str], ...] = ()
        self.silent = Event()  # until then calls after the first are not answered
        self.silent.set()

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        def refuse(_: object, context: grpc.ServicerContext) -> bytes:
            method = details.method.rpartition("/")[2]
            self.calls[method] += 1
            if self.calls[method] > 1:
                self.silent.wait()
            context.set_trailing_metadata(self.hint)
            context.abort(grpc.StatusCode.UNAVAILABLE, "going")

        if details.method.endswith("Generate"):
            return grpc.unary_stream_rpc_method_handler(refuse)
        if details.method.endswith("Stream"):
            return grpc.stream_stream_rpc_method_handler(refuse)
        return grpc.unary_unary_rpc_method_handler(refuse)


@pytest.fixture
def leaving() -> Leaving:
    return Leaving()


@pytest.fixture
def address(leaving: Leaving) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2), handlers=[leaving])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("call", "calls"),
    [
        (lambda client: client.describe(), {"Describe": 4}),
        (lambda client: client.score("q", ["a"]), {"Score": 4}),
        (lambda client: client.submit("q", ["a"]).result(20.0), {"Score": 4}),
        (lambda client: client.generate("a"), {"Generate": 4}),
        (lambda client: next(iter(client.stream("a"))), {"Generate": 4}),
        (lambda client: next(client.score_stream([ScoreCall("1", "q", ["a"])])), {"ScoreStream": 4}),
        (lambda client: next(client.encode_stream([("1", "a")])), {"EncodeStream": 4}),
        (lambda client: client.admin.roll_back("prod", 20.0), {"RollBack": 1}),
        (lambda client: client.jobs.create(TASK, timeout_s=20.0), {"Create": 1}),
        (lambda client: client.jobs.create(TASK, "nightly", timeout_s=20.0), {"Create": 4}),
        (lambda client: client.jobs.retry("nightly", timeout_s=20.0), {"Retry": 1}),
        (lambda client: client.jobs.list(20.0), {"List": 4}),
    ],
)
def test_what_does_the_same_twice_is_made_again(
    call: Callable[[Client], object], calls: dict[str, int], address: str, leaving: Leaving
) -> None:
    leaving.hint = SOON
    with Client(address, timeout_s=20.0) as client, pytest.raises(Unavailable, match="going"):
        call(client)
    assert leaving.calls == calls


def test_the_asyncio_client_does_too(address: str, leaving: Leaving) -> None:
    async def ask() -> None:
        async with AsyncClient(address, timeout_s=20.0) as client:
            streams = (
                client.stream("a"),
                client.score_stream([ScoreCall("1", "q", ["a"])]),
                client.encode_stream([("1", "a")]),
            )
            for call in (client.score("q", ["a"]), client.generate("a"), *map(anext, streams)):
                with pytest.raises(Unavailable, match="going"):
                    await call

    leaving.hint = SOON
    asyncio.run(ask())
    streams = {method: leaving.calls.pop(method) for method in ("ScoreStream", "EncodeStream")}
    assert leaving.calls == {"Score": 4, "Generate": 8}
    assert all(4 <= calls <= 5 for calls in streams.values())  # one more where gRPC lost why


def test_a_stream_that_is_refused_as_its_first_message_is_sent_says_why(address: str) -> None:
    """Up to a quarter are, of which asyncio's gRPC tells no status of the server at first."""

    async def ask() -> None:
        async with AsyncClient(address, timeout_s=20.0, retry=False) as client:
            for _ in range(40):
                for stream in (
                    client.score_stream([ScoreCall("1", "q", ["a"])]),
                    client.encode_stream([("1", "a")]),
                ):
                    with pytest.raises(Unavailable, match="going"):
                        await anext(stream)

    asyncio.run(ask())


class LeavingOnce(grpc.GenericRpcHandler):
    """Server whose first stream of scores ends unanswered, behind two messages; and the next behind two answers."""

    def __init__(self) -> None:
        self.streams: list[list[str]] = []
        self.together = False  # answers come behind the second message, so that both waited for them

    def service(self, _: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        def answer(
            requests: Iterator[pb.ScoreStreamRequest], context: grpc.ServicerContext
        ) -> Iterator[pb.ScoreStreamResponse]:
            self.streams.append(read := [])
            owed: list[pb.ScoreStreamResponse] = []
            for request in requests:
                read.append(request.id)
                owed.append(pb.ScoreStreamResponse(id=request.id, error=NOT_FOUND))
                if len(self.streams) > 1 and (len(read) == 2 or not self.together):
                    yield from owed
                    owed.clear()
                if len(read) == 2 and len(self.streams) != 2:
                    context.set_trailing_metadata(SOON)
                    context.abort(grpc.StatusCode.UNAVAILABLE, "going")

        return grpc.stream_stream_rpc_method_handler(
            answer, pb.ScoreStreamRequest.FromString, pb.ScoreStreamResponse.SerializeToString
        )


@pytest.fixture
def leaving_once() -> Iterator[tuple[LeavingOnce, str]]:
    handler = LeavingOnce()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler, f"127.0.0.1:{port}"
    server.stop(None).wait()


def scored(address: str) -> Iterator[str]:
    with Client(address) as client:
        for answer in client.score_stream((ScoreCall(id, "q", ["a"]) for id in "abcdef"), window=3):
            yield answer.id


def scored_in_a_loop(address: str) -> Iterator[str]:
    ids: list[str] = []
    drawn_in: set[asyncio.Task[None] | None] = set()

    async def calls() -> AsyncIterator[ScoreCall]:
        for id in "abcdef":
            drawn_in.add(asyncio.current_task())
            yield ScoreCall(id, "q", ["a"])

    async def ask() -> None:
        async with AsyncClient(address) as client:
            ids.extend([answer.id async for answer in client.score_stream(calls(), window=3)])

    asyncio.run(ask())
    assert len(drawn_in) == 1  # as time limits and contexts of a source need it
    yield from ids


@pytest.mark.parametrize("scored", [scored, scored_in_a_loop])
def test_a_stream_that_is_begun_anew_sends_all_messages_in_their_order(
    scored: Callable[[str], Iterator[str]], leaving_once: tuple[LeavingOnce, str]
) -> None:
    handler, address = leaving_once
    assert list(scored(address)) == list("abcdef")
    assert handler.streams == [["a", "b"], list("abcdef")]


def test_a_source_that_is_cancelled_is_not_taken_for_one_that_ended() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        raise asyncio.CancelledError

    async def draw() -> None:
        sent = AsyncKeptMessages(source()).sent()
        assert await anext(sent) == 1
        with pytest.raises(asyncio.CancelledError):
            await anext(sent)

    asyncio.run(draw())


@pytest.mark.parametrize("scored", [scored, scored_in_a_loop])
def test_a_stream_that_breaks_goes_on_with_what_has_no_answer(
    scored: Callable[[str], Iterator[str]], leaving_once: tuple[LeavingOnce, str]
) -> None:
    handler, address = leaving_once
    handler.streams += [[], []]  # as if two were over
    assert list(scored(address)) == list("abcdef")
    # Behind the last answer no call is left, and the stream is not begun once more to hear the same.
    assert handler.streams[2:5] == [["a", "b"], ["c", "d"], ["e", "f"]]


def test_of_calls_with_one_id_it_is_not_known_which_are_left(leaving_once: tuple[LeavingOnce, str]) -> None:
    handler, address = leaving_once
    handler.streams += [[], []]
    handler.together = True
    with Client(address) as client, pytest.raises(Unavailable, match="going"):
        list(client.score_stream((ScoreCall("a", "q", [item]) for item in "abcdef"), window=3))
    # One whose end comes before its answer is read may be begun anew, from the start.
    assert all(stream == ["a", "a"] for stream in handler.streams[2:])
    assert len(handler.streams) > 2


def test_equal_calls_with_one_id_may_stand_for_each_other(leaving_once: tuple[LeavingOnce, str]) -> None:
    handler, address = leaving_once
    handler.streams += [[], []]
    handler.together = True
    with Client(address) as client:
        answers = list(client.score_stream((ScoreCall("a", "q", ["a"]) for _ in range(6)), window=3))
    assert [answer.id for answer in answers] == ["a"] * 6


class EncodesOne(grpc.GenericRpcHandler):
    """Server each of whose streams encodes one chunk, with the next of some encoders, and is gone."""

    def __init__(self, encoders: str) -> None:
        self.encoders = iter(encoders)

    def service(self, _: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        def answer(
            requests: Iterator[pb.EncodeStreamRequest], context: grpc.ServicerContext
        ) -> Iterator[pb.EncodeStreamResponse]:
            for request in requests:
                lengths = np.array([len(text) for text in request.texts.texts.values], np.float32)
                rows = np.broadcast_to(lengths[:, None, None], (len(lengths), 1, 2))
                one = wire.encode_response(rows, next(self.encoders))
                yield pb.EncodeStreamResponse(
                    fingerprint=one.fingerprint, embeddings=one.embeddings, ids=request.ids
                )
                context.set_trailing_metadata(SOON)
                context.abort(grpc.StatusCode.UNAVAILABLE, "going")

        return grpc.stream_stream_rpc_method_handler(
            answer, pb.EncodeStreamRequest.FromString, pb.EncodeStreamResponse.SerializeToString
        )


def encoded(encoders: str) -> Iterator[tuple[str, float]]:
    server = grpc.server(ThreadPoolExecutor(2), handlers=[EncodesOne(encoders)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with Client(f"127.0.0.1:{port}") as client:
            for text in client.encode_stream(((str(n), "a" * n) for n in range(5)), chunk_texts=2):
                yield text.id, text.embeddings[0, 0]
    finally:
        server.stop(None).wait()


def test_texts_are_encoded_in_their_order_over_all_breaks() -> None:
    assert list(encoded("eee")) == [(str(n), n) for n in range(5)]


def test_embeddings_of_two_encoders_do_not_mix() -> None:
    texts = encoded("eef")
    assert [next(texts)[0] for _ in range(4)] == ["0", "1", "2", "3"]
    with pytest.raises(PairingError, match="has the encoder 'f'; what came before is of 'e'"):
        next(texts)


@pytest.mark.parametrize("hint_ms", ["-1", "60000"])
def test_what_the_server_says_holds(hint_ms: str, address: str, leaving: Leaving) -> None:
    leaving.hint = (("grpc-retry-pushback-ms", hint_ms),)
    with Client(address, timeout_s=20.0) as client, pytest.raises(Unavailable, match="going"):
        client.score("q", ["a"])
    assert leaving.calls == {"Score": 1}


def test_without_retry_each_is_made_once(address: str, leaving: Leaving) -> None:
    with Client(address, timeout_s=20.0, retry=False) as client:
        for call in (client.describe, lambda: client.submit("q", ["a"]).result(20.0)):
            with pytest.raises(Unavailable, match="going"):
                call()
    assert leaving.calls == {"Describe": 1, "Score": 1}


def test_a_timeout_is_told_as_the_caller_gave_it_however_late_the_last_attempt(
    address: str, leaving: Leaving
) -> None:
    async def generate() -> None:
        async with AsyncClient(address, timeout_s=2.0) as client:
            await client.generate("a")

    with Client(address, timeout_s=2.0) as client:
        for call in (lambda: client.generate("a"), lambda: asyncio.run(generate())):
            leaving.calls.clear()
            leaving.silent.clear()
            try:
                with pytest.raises(DeadlineExceeded, match=r"within 2\.0 s"):
                    call()
            finally:
                leaving.silent.set()


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.score("q", ["a"]),
        lambda client: client.generate("a"),
        lambda client: client.stream("a"),
    ],
)
def test_a_client_that_is_closed_as_a_call_begins_says_so(
    call: Callable[[Client], object], address: str
) -> None:
    def token() -> str:
        client.close()
        return "t"

    client = Client(address, timeout_s=20.0, token=token)
    with pytest.raises(Unavailable, match="is closed; make a new one"):
        call(client)


def test_a_text_that_is_closed_as_it_is_begun_anew_is_not_waited_for(leaving: Leaving, address: str) -> None:
    begun: list[WrittenText] = []

    def token() -> str:
        for text in begun:  # of the second attempt
            text.close()
        return "t"

    leaving.hint = SOON
    leaving.silent.clear()
    with Client(address, timeout_s=5.0, token=token) as client:
        begun.append(client.stream("a"))
        try:
            with pytest.raises(RequestCancelled):
                next(iter(begun[0]))
        finally:
            leaving.silent.set()
