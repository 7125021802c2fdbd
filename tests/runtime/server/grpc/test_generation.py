"""Texts over gRPC: the same as in process, in parts, cancelled by their client."""

import asyncio
from collections.abc import Iterator

import pytest

from rankport.protos.errors import DeadlineExceeded, InvalidRequest, LimitExceeded, NotFound
from rankport.protos.generation import GeneratedPart, GenerateResult, Sampling
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.server import Server
from rankport.sdk import AsyncClient, Client
from support.samplings import ADJUSTED
from support.servers.supervised import eventually

DRAWN = Sampling(max_tokens=10, temperature=1.0, seed=4, logprobs=True, stop=("zzz",), stop_ids=(3,))


@pytest.fixture(scope="module")
def generator(generator_bundle: Bundle) -> Iterator[Generator]:
    with Generator.load(generator_bundle, config=EngineConfig(threads=1)) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def server(generator: Generator) -> Iterator[Server]:
    with Server({"writer": generator}, ServerConfig(port=0, grace_s=1.0)) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address, timeout_s=30.0) as connected:
        yield connected


def test_a_text_is_that_of_the_process(client: Client, generator: Generator) -> None:
    for prompt in ("a b", {"prefix": "a b"}, [5, 6, 7]):
        assert _content(client.generate(prompt, DRAWN)) == _content(generator.generate(prompt, DRAWN))
    assert _content(client.generate("a b", ADJUSTED)) == _content(generator.generate("a b", ADJUSTED))
    usage = client.generate([5, 6, 7], DRAWN).usage
    assert usage.prompt_tokens_cached + usage.prompt_tokens_computed == 3
    assert usage.compute_s > 0


def test_items_are_scored_as_texts_by_the_same_model(client: Client, generator: Generator) -> None:
    ours, theirs = generator.score("a b", ["c", "d e"]), client.score("a b", ["c", "d e"])
    assert theirs.scores.tolist() == pytest.approx(ours.scores.tolist(), abs=1e-5)
    assert (theirs.score_kind, theirs.read_out) == (ours.score_kind, ours.read_out)
    assert (
        client.rank("a b", ["c", "d e"]).indices.tolist()
        == generator.rank("a b", ["c", "d e"]).indices.tolist()
    )


def test_parts_come_one_after_another(client: Client) -> None:
    with client.stream("a b", DRAWN) as stream:
        parts = list(stream)
        result = stream.result()
    assert "".join(part.text for part in parts) == result.text
    assert [part.token_id for part in parts if part.token_id is not None] == list(result.token_ids)
    assert result.logprobs is not None


def test_a_loop_has_texts_too(server: Server, generator: Generator) -> None:
    async def run() -> tuple[GenerateResult, list[GeneratedPart], GenerateResult]:
        async with AsyncClient(server.address, timeout_s=30.0) as client:
            result = await client.generate("a b", DRAWN)
            async with client.stream("a b", ADJUSTED) as stream:
                return result, [part async for part in stream], await stream.result()

    result, parts, streamed = asyncio.run(run())
    assert _content(result) == _content(generator.generate("a b", DRAWN))
    assert _content(streamed) == _content(generator.generate("a b", ADJUSTED))
    assert streamed.usage.generated_tokens == 10
    assert "".join(part.text for part in parts) == streamed.text
    assert [part.top_logprobs for part in parts if part.token_id is not None] == [*streamed.top_logprobs]


def test_a_stream_of_a_loop_that_ends_early_ends_the_text(server: Server, generator: Generator) -> None:
    async def run() -> None:
        async with AsyncClient(server.address, timeout_s=30.0) as client:
            async for _ in client.stream([5], Sampling(max_tokens=64)):
                break
            stream = client.stream([5], Sampling(max_tokens=65))
            for _ in range(2):
                with pytest.raises(LimitExceeded, match="the bundle writes at most 64"):
                    await stream.result()

    asyncio.run(run())
    eventually(lambda: generator.counts().engines["cpu"].queue.active_requests == 0)


def test_texts_of_recurrent_layers_stream_beside_each_other(hybrid_bundle: Bundle) -> None:
    prompts = ["a b", [5, 6, 7], {"prefix": "a b c"}]
    with Generator.load(hybrid_bundle, config=EngineConfig(threads=1)) as writer:
        alone = [writer.generate(prompt, DRAWN) for prompt in prompts]
        with Server({"hybrid": writer}, ServerConfig(port=0)) as running, Client(running.address) as client:
            streams = [client.stream(prompt, DRAWN) for prompt in prompts]
            for stream, expected in zip(streams, alone, strict=True):
                with stream:
                    tokens = [part.token_id for part in stream if part.token_id is not None]
                assert tuple(tokens) == expected.token_ids
            scores = client.score("a b", ["c", "d e"]).scores
        assert scores.tolist() == pytest.approx(writer.score("a b", ["c", "d e"]).scores.tolist(), abs=1e-5)


def test_a_closed_stream_ends_the_text(client: Client, generator: Generator) -> None:
    with client.stream([5], Sampling(max_tokens=64)) as stream:
        next(iter(stream))
    client.generate([6], Sampling(max_tokens=1))
    eventually(lambda: generator.counts().engines["cpu"].queue.active_requests == 0)


@pytest.mark.parametrize(
    ("prompt", "sampling", "error", "told"),
    [
        ([5], Sampling(max_tokens=65), LimitExceeded, "the bundle writes at most 64"),
        ([], Sampling(), InvalidRequest, "prefix"),
        ({"nobody": "a"}, Sampling(), InvalidRequest, "nobody"),
        ([5], Sampling(json_schema={"type": "objekt"}), InvalidRequest, "json_schema"),
        ([5], Sampling(regex="(a"), InvalidRequest, "regex"),
    ],
)
def test_errors_are_those_of_the_process(
    client: Client,
    generator: Generator,
    prompt: object,
    sampling: Sampling,
    error: type[Exception],
    told: str,
) -> None:
    for writes in (client.generate, generator.generate):
        with pytest.raises(error, match=told):
            writes(prompt, sampling)  # type: ignore[operator]


def test_a_deadline_and_another_models_name(server: Server) -> None:
    with Client(server.address, timeout_s=1e-4, retry=False) as hasty, pytest.raises(DeadlineExceeded):
        hasty.generate([5], Sampling(max_tokens=64))
    with (
        Client(server.address, model="other") as lost,
        pytest.raises(NotFound, match="this server has writer"),
    ):
        lost.generate([5])
    with Client(server.address) as asking, pytest.raises(NotFound, match="names no model that encodes"):
        asking.encode(["b"])


def _content(result: GenerateResult) -> tuple[object, ...]:
    logprobs = None if result.logprobs is None else [round(float(one), 4) for one in result.logprobs]
    likeliest = [
        [(each.token_id, each.text, round(each.logprob, 4)) for each in place]
        for place in result.top_logprobs
    ]
    return result.text, result.token_ids, result.finish_reason, logprobs, likeliest


def test_all_that_beams_find_is_that_of_the_process(seq2seq_bundle: Bundle) -> None:
    sampling = Sampling(max_tokens=6, beams=3, length_penalty=0.5)
    with (
        Generator.load(seq2seq_bundle, config=EngineConfig(threads=1)) as suggester,
        Server({"suggester": suggester}, ServerConfig(port=0, grace_s=1.0)) as running,
        Client(running.address, timeout_s=30.0) as client,
    ):
        expected = suggester.generate("red shoes", sampling)
        assert client.generate("red shoes", sampling).beams == expected.beams
        assert client.generate("red shoes", sampling).text == expected.beams[0].text
        with client.stream("red shoes", Sampling(max_tokens=6)) as stream:
            assert (
                "".join(part.text for part in stream)
                == suggester.generate("red shoes", Sampling(max_tokens=6)).text
            )
    assert len(expected.beams) == 3
