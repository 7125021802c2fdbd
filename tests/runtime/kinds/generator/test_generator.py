"""Texts in this process: many at once, streams, ends, limits, cancellation."""

import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from rankport.protos.errors import (
    BackendError,
    DeadlineExceeded,
    InvalidRequest,
    LimitExceeded,
    Overloaded,
    RequestCancelled,
    Unavailable,
)
from rankport.protos.generation import GeneratedPart, GenerateResult, Sampling
from rankport.runtime.backends.write_contract import DecodeBackend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.engines import local
from rankport.runtime.kinds.generator.engines.orders import Orders
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.kinds.generator.texts.text import TextOrder
from rankport.runtime.kinds.ranker.ranker import Ranker

PROMPTS = [[1, 40], [1, 41, 42, 43, 44, 45, 46], [1, *range(30, 60)], [5]]
DRAWN = Sampling(max_tokens=12, temperature=1.0, seed=11)


@pytest.fixture(scope="module")
def generator(generator_bundle: Bundle) -> Iterator[Generator]:
    with Generator.load(generator_bundle, config=EngineConfig(threads=1)) as loaded:
        yield loaded


def test_texts_are_the_same_alone_and_beside_others(generator: Generator) -> None:
    alone = [generator.generate(prompt, DRAWN).token_ids for prompt in PROMPTS]
    together = [generator.submit_generate(prompt, DRAWN) for prompt in PROMPTS * 3]
    assert [future.result().token_ids for future in together] == alone * 3
    assert len({*alone}) == len(alone)


def test_prompts_are_computed_once(generator: Generator) -> None:
    prompt = list(range(60, 90))
    first = generator.generate(prompt, Sampling(max_tokens=2)).usage
    again = generator.generate([*prompt, 50], Sampling(max_tokens=2)).usage
    assert (first.prompt_tokens_cached, first.prompt_tokens_computed) == (0, len(prompt))
    # The last token of a prompt is decoded, so its KV is not among what is kept of it.
    assert (again.prompt_tokens_cached, again.prompt_tokens_computed) == (len(prompt) - 1, 2)


def test_a_stream_is_the_text_in_parts(generator: Generator) -> None:
    with generator.stream("a b", DRAWN) as stream:
        parts = list(stream)
        result = stream.result()
    assert result == _same_but_seconds(generator.generate("a b", DRAWN), result)
    assert "".join(part.text for part in parts) == result.text
    assert tuple(part.token_id for part in parts if part.token_id is not None) == result.token_ids
    assert list(stream) == []  # once more: nothing


def test_log_probabilities_are_told_where_asked_for(generator: Generator) -> None:
    told: list[GeneratedPart] = []
    sampling = Sampling(max_tokens=5, logprobs=True)
    result = generator.submit_generate([1, 40], sampling, on_part=told.append).result()
    assert result.logprobs is not None
    assert result.logprobs.shape == (len(result.token_ids),)
    assert (result.logprobs < 0).all()
    np.testing.assert_allclose(
        [part.logprob for part in told if part.token_id is not None], result.logprobs, rtol=1e-6
    )
    assert generator.generate([1, 40]).logprobs is None


def test_the_likeliest_tokens_are_told_in_each_place(generator: Generator) -> None:
    told: list[GeneratedPart] = []
    sampling = Sampling(max_tokens=5, logprobs=True, top_logprobs=4)
    result = generator.submit_generate("a b", sampling, on_part=told.append).result()
    assert [part.top_logprobs for part in told if part.token_id is not None] == [*result.top_logprobs]
    assert result.logprobs is not None
    for token, logprob, likeliest in zip(result.token_ids, result.logprobs, result.top_logprobs, strict=True):
        assert (likeliest[0].token_id, likeliest[0].logprob) == (token, pytest.approx(logprob, abs=1e-5))
        assert len({each.token_id for each in likeliest}) == 4
        assert [each.logprob for each in likeliest] == sorted(each.logprob for each in likeliest)[::-1]
    assert "".join(likeliest[0].text for likeliest in result.top_logprobs) == result.text


def test_penalties_are_of_what_is_written_and_not_of_the_prompt(generator: Generator) -> None:
    """Goes on token by token, each the likeliest of twenty less what it costs to come again."""
    prompt, written = [1, *range(30, 60)], list[int]()
    asked = Sampling(max_tokens=1, logprobs=True, top_logprobs=20)
    for _ in range(24):
        (likeliest,) = generator.generate([*prompt, *written], asked).top_logprobs
        left = {
            each.token_id: each.logprob
            - 0.5 * written.count(each.token_id)
            - 1.5 * (each.token_id in written)
            for each in likeliest
        }
        best = max(left, key=lambda token: left[token])
        assert left[best] > likeliest[-1].logprob  # or another might come in
        written.append(best)
    result = generator.generate(
        prompt, Sampling(max_tokens=24, presence_penalty=1.5, frequency_penalty=0.5, ignore_eos=True)
    )
    assert list(result.token_ids) == written
    assert result.token_ids != generator.generate(prompt, Sampling(max_tokens=24)).token_ids


def test_ends_wait_for_the_least_tokens_or_are_ignored(generator: Generator) -> None:
    end, prompt = {2: 100.0}, [1, 41, 42, 43]
    at_once = generator.generate(prompt, Sampling(max_tokens=8, logit_bias=end))
    assert (at_once.finish_reason, at_once.token_ids) == ("stop", ())
    later = generator.generate(prompt, Sampling(max_tokens=8, logit_bias=end, min_tokens=5))
    assert (later.finish_reason, len(later.token_ids), 2 in later.token_ids) == ("stop", 5, False)
    ignored = generator.generate(
        prompt, Sampling(max_tokens=8, logit_bias=end, min_tokens=5, ignore_eos=True)
    )
    assert (ignored.finish_reason, ignored.token_ids) == ("length", (*later.token_ids, 2, 2, 2))
    assert ignored.text == later.text
    own = Sampling(max_tokens=8, logit_bias=end, ignore_eos=True, stop_ids=(2,))
    assert generator.generate(prompt, own).finish_reason == "stop"


def test_least_tokens_of_the_bundle_are_those_of_a_request_that_says_none(generator_bundle: Bundle) -> None:
    manifest = generator_bundle.manifest
    assert manifest.generation is not None
    ends = {2: 100.0}
    told = manifest.generation.model_copy(update={"min_tokens": 4})
    stated = Orders(manifest.model_copy(update={"generation": told}), None)
    for said, least in ((None, 4), (0, 0), (2, 2)):
        order = stated.order(Sampling(logit_bias=ends, min_tokens=said), [1], None)
        assert isinstance(order, TextOrder)
        logits = np.arange(101, dtype=np.float32)
        assert [order.sampler.draw(logits) for _ in range(least + 1)] == [100] * least + [2]


def test_tokens_and_texts_that_stop(generator: Generator) -> None:
    whole = generator.generate([1, 41, 42, 43], Sampling(max_tokens=8))
    assert (whole.finish_reason, len(whole.token_ids)) == ("length", 8)
    third = whole.token_ids[2]
    cut = generator.generate([1, 41, 42, 43], Sampling(max_tokens=8, stop_ids=(third,)))
    assert cut.finish_reason == "stop"
    assert cut.token_ids == whole.token_ids[: whole.token_ids.index(third)]
    assert cut.usage.generated_tokens == len(cut.token_ids) + 1
    words = whole.text.split()
    stopped = generator.generate([1, 41, 42, 43], Sampling(max_tokens=8, stop=(words[-1],)))
    assert stopped.finish_reason == "stop"
    assert words[-1] not in stopped.text
    assert whole.text.startswith(stopped.text)


@pytest.mark.parametrize(
    ("sampling", "told"),
    [
        (Sampling(max_tokens=65), "max_tokens is 65: the bundle writes at most 64"),
        (Sampling(stop_ids=(10**6,)), "stop_ids has 1000000: tokens are 0 to"),
        (Sampling(logit_bias={7: 1.0, 101: 1.0}), "logit_bias has 101: tokens are 0 to 100"),
        (Sampling(min_tokens=5, max_tokens=4), r"min_tokens is 5: the text has at most 4 \(max_tokens\)"),
    ],
)
def test_what_the_bundle_has_not_is_told(generator: Generator, sampling: Sampling, told: str) -> None:
    with pytest.raises((LimitExceeded, InvalidRequest), match=told):
        generator.generate([1], sampling)


def test_an_empty_or_too_long_prompt_is_told(generator: Generator) -> None:
    with pytest.raises(InvalidRequest, match="prefix has no tokens"):
        generator.generate([])
    with pytest.raises(LimitExceeded, match="65 token ids, max_prefix_tokens is 64"):
        generator.generate([1] * 65)


def test_a_text_that_nobody_waits_for_is_not_written(generator: Generator) -> None:
    long = Sampling(max_tokens=64, stop_ids=())
    told: list[GeneratedPart] = []
    futures = [generator.submit_generate([1, 40 + place], long, on_part=told.append) for place in range(4)]
    for future in futures:
        future.cancel()
    with pytest.raises((DeadlineExceeded, Overloaded)):  # as the queue still has cancelled ones or not
        generator.generate([1, 40], long, timeout_s=0.0)
    generator.generate([1, 40], Sampling(max_tokens=1))  # the worker has passed all of them by now
    assert len(told) < 4 * 64
    queue = generator.counts().engines["cpu"].queue
    assert (queue.active_requests, queue.waiting_requests) == (0, 0)


def test_what_a_callers_function_raises_fails_its_text_alone(generator: Generator) -> None:
    def fail(part: GeneratedPart) -> None:
        raise KeyError("no")

    other = generator.submit_generate([1, 41], DRAWN)
    with pytest.raises(InvalidRequest, match="on_part raised KeyError: 'no'"):
        generator.submit_generate([1, 40], DRAWN, on_part=fail).result()
    assert other.result().token_ids == generator.generate([1, 41], DRAWN).token_ids


def test_a_loop_has_texts_and_streams(generator: Generator) -> None:
    async def run() -> tuple[GenerateResult, list[GeneratedPart], GenerateResult]:
        result = await generator.agenerate("a b", DRAWN)
        async with generator.astream("a b", DRAWN) as stream:
            return result, [part async for part in stream], await stream.result()

    result, parts, streamed = asyncio.run(run())
    assert "".join(part.text for part in parts) == result.text
    assert streamed == _same_but_seconds(result, streamed)


def test_a_stream_of_a_loop_has_no_result_that_failed_or_was_closed(generator: Generator) -> None:
    async def run() -> None:
        failing = generator.astream([])
        for _ in range(2):
            with pytest.raises(InvalidRequest, match="prefix has no tokens"):
                await failing.result()
        closed = generator.astream([1, 40], Sampling(max_tokens=64))
        await anext(closed)
        await closed.aclose()
        with pytest.raises(RequestCancelled, match="closed before its end"):
            await closed.result()
        complete = generator.astream([1, 40], DRAWN)
        whole = await complete.result()
        await complete.aclose()
        assert await complete.result() is whole

    asyncio.run(run())
    queue = generator.counts().engines["cpu"].queue
    assert (queue.active_requests, queue.waiting_requests) == (0, 0)


@pytest.fixture
def on_gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Loads what is asked of a GPU on the CPU, but for GPU 9, which there is not; lists the numbers asked for."""
    load, asked = local.load_decode_backend, list[int]()

    def on_cpu(bundle: Bundle, config: EngineConfig, *, gpu: int) -> DecodeBackend:
        if gpu == 9:
            raise BackendError("no GPU 9")
        asked.append(gpu)
        return load(bundle, EngineConfig(threads=1))

    monkeypatch.setattr(local, "load_decode_backend", on_cpu)
    return asked


def test_a_generator_is_on_each_gpu(
    generator_bundle: Bundle, generator: Generator, on_gpus: list[int]
) -> None:
    two = EngineConfig(device="cuda", device_ids=(2, 0))
    expected = [generator.generate(prompt, DRAWN).token_ids for prompt in PROMPTS]
    with Generator.load(generator_bundle, config=two) as both:
        assert on_gpus == [2, 0]
        futures = [both.submit_generate(prompt, DRAWN) for prompt in PROMPTS * 2]
        assert [future.result().token_ids for future in futures] == expected * 2
        assert both.counts().engines.keys() == {"cuda:2", "cuda:0"}


def test_a_gpu_that_cannot_be_loaded_leaves_no_engine_behind(
    generator_bundle: Bundle, on_gpus: list[int]
) -> None:
    before = threading.active_count()
    with pytest.raises(BackendError, match="no GPU 9"):
        Generator.load(generator_bundle, config=EngineConfig(device="cuda", device_ids=(0, 9)))
    assert on_gpus == [0]
    assert threading.active_count() == before


def test_it_is_no_ranker_and_a_closed_one_says_so(generator_bundle: Bundle, mix_bundle: Bundle) -> None:
    with pytest.raises(InvalidRequest, match="kind: is 'generator', where ranker is looked for"):
        Ranker.load(generator_bundle.path)
    with pytest.raises(InvalidRequest, match="kind: is 'ranker', where generator or seq2seq is looked for"):
        Generator.load(mix_bundle.path)
    closed = Generator.load(generator_bundle, config=EngineConfig(threads=1))
    closed.close()
    with pytest.raises(Unavailable):
        closed.generate([1])


def _same_but_seconds(result: GenerateResult, other: GenerateResult) -> GenerateResult:
    from dataclasses import replace

    return replace(result, usage=other.usage)
