"""Answers to texts in this process: many at once, streams, ends, limits, cancellation."""

from collections.abc import Iterator

import numpy as np
import pytest

from rankport.protos.errors import DeadlineExceeded, InvalidRequest, LimitExceeded, Overloaded
from rankport.protos.generation import GeneratedPart, Sampling
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.kinds.generator.tries.trie import TokenTrie
from rankport.runtime.kinds.scorer import Scorer

TEXTS = ["red shoes", "a", "Query: blue boots yes", "12 boots 3.5 (new)"]
WAYS = [
    Sampling(max_tokens=9),
    Sampling(max_tokens=7, beams=3),
    Sampling(max_tokens=8, temperature=1.0, seed=3),
    Sampling(max_tokens=6, beams=2),
]


@pytest.fixture(scope="module")
def generator(seq2seq_bundle: Bundle) -> Iterator[Generator]:
    with Generator.load(seq2seq_bundle, config=EngineConfig(threads=1)) as loaded:
        yield loaded


def test_answers_are_the_same_alone_and_beside_others(generator: Generator) -> None:
    asked = [(text, way) for text in TEXTS for way in WAYS]
    alone = [generator.generate(text, way) for text, way in asked]
    together = [generator.submit_generate(text, way) for text, way in [*asked, *reversed(asked)]]
    results = [future.result() for future in together]
    for result, expected in zip(results, [*alone, *reversed(alone)], strict=True):
        assert (result.token_ids, result.text) == (expected.token_ids, expected.text)
        np.testing.assert_allclose(
            [beam.score for beam in result.beams], [beam.score for beam in expected.beams], atol=1e-5
        )
    assert len({result.token_ids for result in alone}) > len(TEXTS)


@pytest.mark.parametrize("way", WAYS[:2])
def test_a_stream_is_the_text_in_parts(generator: Generator, way: Sampling) -> None:
    with generator.stream("red shoes", way) as stream:
        parts = list(stream)
        result = stream.result()
    assert "".join(part.text for part in parts) == result.text
    assert tuple(part.token_id for part in parts if part.token_id is not None) == result.token_ids
    assert result.usage.prompt_tokens_computed == 3
    assert result.usage.generated_tokens == len(result.token_ids) + (result.finish_reason == "stop")


def test_a_text_that_stops_one_is_no_part_of_it(generator: Generator) -> None:
    whole = generator.generate("red shoes", Sampling(max_tokens=9))
    stop = whole.text[4:7]
    stopped = generator.generate("red shoes", Sampling(max_tokens=9, stop=(stop,)))
    assert (stopped.text, stopped.finish_reason) == (whole.text[: whole.text.index(stop)], "stop")


@pytest.mark.parametrize("beams", [1, 3])
def test_an_end_waits_for_the_least_tokens(generator: Generator, beams: int) -> None:
    whole = generator.generate("red shoes", Sampling(max_tokens=9, beams=beams))
    found = [beam.token_ids for beam in whole.beams] or [whole.token_ids]
    ends = tuple({tokens[0] for tokens in found})
    for least in (0, 4, 9):
        asked = Sampling(max_tokens=9, beams=beams, stop_ids=ends, min_tokens=least)
        result = generator.generate("red shoes", asked)
        lengths = [len(beam.token_ids) for beam in result.beams] or [len(result.token_ids)]
        assert min(lengths) >= least
        assert least or not min(lengths)


@pytest.mark.parametrize(
    ("sampling", "told"),
    [
        (Sampling(max_tokens=25), "max_tokens is 25: the bundle writes at most 24"),
        (Sampling(beams=2, temperature=0.5), "temperature is not told of texts that 2 beams find"),
        (Sampling(beams=2, stop=("x",)), "stop is not told of texts that 2 beams find"),
        (Sampling(beams=2, logprobs=True), "logprobs is not told of texts that 2 beams find"),
        (Sampling(beams=2, logit_bias={3: 1.0}), "logit_bias is not told of texts that 2 beams find"),
        (Sampling(beams=2, presence_penalty=1.0), "presence_penalty is not told of texts that 2 beams find"),
        (Sampling(beams=2, ignore_eos=True), "ignore_eos is not told of texts that 2 beams find"),
        (Sampling(beams=1, length_penalty=2.0), "length_penalty is 2, and the text is found by no beams"),
        (Sampling(stop_ids=(10**6,)), "stop_ids has 1000000: tokens are 0 to"),
    ],
)
def test_what_the_bundle_has_not_is_told(generator: Generator, sampling: Sampling, told: str) -> None:
    with pytest.raises((LimitExceeded, InvalidRequest), match=told):
        generator.generate("a", sampling)


def test_a_long_or_empty_text_is_told(generator: Generator) -> None:
    with pytest.raises(LimitExceeded, match="33 token ids, max_prefix_tokens is 32"):
        generator.generate([1] * 33)
    with pytest.raises(InvalidRequest, match="prefix has no tokens"):
        generator.generate([])


def test_a_trie_is_no_search_of_it_and_beams_are_none_of_a_generators(
    generator: Generator, generator_bundle: Bundle, seq2seq_bundle: Bundle
) -> None:
    trie = TokenTrie.of(["a"], np.array([[5, 6]]), vocabulary=432)
    with pytest.raises(InvalidRequest, match="of kind seq2seq searches no trie: generate with beams"):
        generator.search("a", trie)
    with pytest.raises(InvalidRequest, match="of kind seq2seq generates, and scores nothing"):
        Scorer.load(seq2seq_bundle.path)
    with Generator.load(generator_bundle, config=EngineConfig(threads=1)) as other:
        for sampling in (Sampling(beams=2), Sampling(length_penalty=2.0)):
            with pytest.raises(InvalidRequest, match="of kind generator writes token by token"):
                other.generate([1], sampling)


def test_beams_out_of_range_are_told() -> None:
    with pytest.raises(InvalidRequest, match="beams is 257: give a whole number from 1 to 256"):
        Sampling(beams=257)
    with pytest.raises(InvalidRequest, match="length_penalty is nan: give a number from -10 to 10"):
        Sampling(length_penalty=float("nan"))


def test_an_answer_that_nobody_waits_for_is_not_written(generator: Generator) -> None:
    told: list[GeneratedPart] = []
    futures = [generator.submit_generate(text, Sampling(beams=4), on_part=told.append) for text in TEXTS]
    futures += [generator.submit_generate(text, on_part=told.append) for text in TEXTS]
    for future in futures:
        future.cancel()
    with pytest.raises((DeadlineExceeded, Overloaded)):  # as the queue still has cancelled ones or not
        generator.generate("a", timeout_s=0.0)
    generator.generate("a", Sampling(max_tokens=1))  # the worker has passed all of them by now
    assert len(told) < len(futures) * 24
    queue = generator.counts().engines["cpu"].queue
    assert (queue.active_requests, queue.waiting_requests) == (0, 0)


def test_what_a_callers_function_raises_fails_its_text_alone(generator: Generator) -> None:
    def fail(part: GeneratedPart) -> None:
        raise KeyError("no")

    other = generator.submit_generate("a", Sampling(max_tokens=4, beams=2))
    for way in WAYS[:2]:
        with pytest.raises(InvalidRequest, match="on_part raised KeyError: 'no'"):
            generator.submit_generate("a", way, on_part=fail).result()
    assert other.result().token_ids == generator.generate("a", Sampling(max_tokens=4, beams=2)).token_ids
