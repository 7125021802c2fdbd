"""A generator whose engine is behind a link writes, searches and scores as by itself, and is cancelled there.

Both ends are in this process, which is all that the models know.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from rankport.protos.errors import DeadlineExceeded, InvalidRequest, LimitExceeded, NotFound, Unavailable
from rankport.protos.generation import GeneratedPart, GenerateResult, Sampling
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.kinds.generator.tries.trie import TokenTrie
from rankport.runtime.kinds.hosted_engine import HostedEngine, Tell, load_hosted
from rankport.runtime.kinds.remote.messages import EngineOrder, Message
from rankport.runtime.links.columns import Columns
from rankport.runtime.links.link import Link
from rankport.runtime.scheduling.counts import EngineCounts
from rankport.runtime.server.processes.engine_host import EngineHost
from support.servers.supervised import ONE_THREAD, eventually

DRAWN = Sampling(
    max_tokens=10,
    temperature=1.0,
    seed=4,
    logprobs=True,
    top_logprobs=2,
    logit_bias={40: 2.5, 7: -3.0},
    presence_penalty=0.5,
    stop=("zzz",),
    stop_ids=(3,),
)
ENDLESS = Sampling(max_tokens=64)
KEYS, ROWS = ["ä", "b", "c", "d"], np.array([[50, 51], [50, 52], [53, 51], [50, 51]])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> EngineConfig:
    """Settings with a folder of one trie."""
    root = tmp_path_factory.mktemp("tries")
    TokenTrie.of(KEYS, ROWS, 101).save(root / "few")
    return replace(ONE_THREAD, trie_root=str(root))


@pytest.fixture(scope="module")
def own(generator_bundle: Bundle, config: EngineConfig) -> Iterator[Generator]:
    with Generator.load(generator_bundle, config=config) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def host(config: EngineConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineConfig]:
    """Hosts engines, and gives the settings of models that have theirs there."""
    path = str(tmp_path_factory.mktemp("host") / "engine")
    hosting = EngineHost(path, config, lambda: None)
    yield replace(config, engines_at=(path,), link_bytes=2**16)
    hosting.close()


@pytest.fixture(scope="module")
def remote(generator_bundle: Bundle, host: EngineConfig) -> Iterator[Generator]:
    with Generator.load(generator_bundle, config=host) as loaded:
        yield loaded


def content(result: GenerateResult) -> tuple[object, ...]:
    likeliest = [[(each.token_id, each.text) for each in place] for place in result.top_logprobs]
    return result.text, result.token_ids, result.finish_reason, result.beams, likeliest


def test_a_text_and_its_parts_are_the_same(own: Generator, remote: Generator) -> None:
    for prompt in ("a b", [5, 6, 7]):
        told: list[list[GeneratedPart]] = [[], []]
        texts = [
            model.submit_generate(prompt, DRAWN, on_part=parts.append).result(20)
            for model, parts in zip((own, remote), told, strict=True)
        ]
        assert content(texts[1]) == content(texts[0])
        np.testing.assert_allclose(texts[1].logprobs, texts[0].logprobs, atol=1e-5)
        assert [(part.text, part.token_id, len(part.top_logprobs)) for part in told[1]] == [
            (part.text, part.token_id, 2 * (part.token_id is not None)) for part in told[0]
        ]
        assert "".join(part.text for part in told[1]) == texts[1].text
        usage = texts[1].usage
        assert usage.generated_tokens == texts[0].usage.generated_tokens
        assert usage.compute_s > 0


def test_numbers_of_numpy_and_a_form_that_cannot_be_followed(own: Generator, remote: Generator) -> None:
    sampling = Sampling(max_tokens=np.int64(3), stop_ids=(7,), temperature=0.5, seed=1)  # type: ignore[arg-type]
    assert content(remote.generate([5], sampling)) == content(own.generate([5], sampling))
    errors = []
    for model in (own, remote):
        with pytest.raises(InvalidRequest, match="json_schema") as raised:
            model.generate([5], Sampling(json_schema={"type": "objekt"}))
        errors.append(str(raised.value))
    assert errors[0] == errors[1]


def test_grammar_of_a_request_whose_time_is_up_is_not_compiled(own: Generator) -> None:
    late = own.submit_generate([5], Sampling(json_schema={"type": "boolean"}), 0.0)
    with pytest.raises(DeadlineExceeded, match="before the grammar of the text could be compiled"):
        late.result(20)


def test_items_are_found_and_scored_the_same(own: Generator, remote: Generator) -> None:
    found = [model.search([1, 40], "few", beams=4, top_k=3) for model in (own, remote)]
    assert found[1].keys == found[0].keys
    np.testing.assert_array_equal(found[1].token_ids, found[0].token_ids)
    np.testing.assert_allclose(found[1].scores, found[0].scores, atol=1e-5)
    assert found[1].usage.generated_tokens == 2
    scored = [model.score("a b", ["c", "", "d e"]) for model in (own, remote)]
    np.testing.assert_allclose(scored[1].scores, scored[0].scores, atol=1e-5)
    assert scored[1].status == scored[0].status


def test_beams_of_an_encoder_decoder_are_the_same(seq2seq_bundle: Bundle, host: EngineConfig) -> None:
    sampling = Sampling(max_tokens=6, beams=3, length_penalty=0.5)
    with (
        Generator.load(seq2seq_bundle, config=ONE_THREAD) as here,
        Generator.load(seq2seq_bundle, config=host) as there,
    ):
        assert content(there.generate("red shoes", sampling)) == content(here.generate("red shoes", sampling))
        assert there.counts().cache is None
        with pytest.raises(InvalidRequest, match="searches no trie"):
            there.search("red shoes", "few")


@pytest.mark.parametrize(
    ("asked", "error", "told"),
    [
        (lambda model: model.generate([5], Sampling(max_tokens=65)), LimitExceeded, "writes at most 64"),
        (lambda model: model.generate([]), InvalidRequest, "prefix"),
        (lambda model: model.generate([5], Sampling(beams=2)), InvalidRequest, "beams"),
        (lambda model: model.search([5], "none"), NotFound, "there are few"),
        (lambda model: model.generate([5], ENDLESS, timeout_s=1e-4), DeadlineExceeded, "ran out"),
    ],
)
def test_errors_are_the_same(
    own: Generator,
    remote: Generator,
    asked: Callable[[Generator], object],
    error: type[Exception],
    told: str,
) -> None:
    for model in (own, remote):
        with pytest.raises(error, match=told):
            asked(model)


def test_a_trie_of_this_process_alone_is_refused(remote: Generator) -> None:
    with pytest.raises(InvalidRequest, match="opens tries itself: give the name"):
        remote.search([5], TokenTrie.of(KEYS, ROWS, 101))


class Hold:
    """Holds the thread of a hosted engine once it has told two parts of a text, until it is released."""

    def __init__(self) -> None:
        self.reached, self.released = threading.Event(), threading.Event()
        self.futures: list[Future[Columns]] = []  # of what the engine was asked
        self._hosted: HostedEngine | None = None

    def load(self, order: EngineOrder, config: EngineConfig) -> HostedEngine:
        """Loads the engine."""
        whole = load_hosted(order, config)

        def begin(request: Columns, tell: Tell) -> "Future[Columns]":
            told = itertools.count(1)  # the first part may come of the prefill

            def tell_and_wait(part: Columns) -> None:
                tell(part)
                if next(told) == 2:
                    self.reached.set()
                    assert self.released.wait(60.0)

            self.futures.append(whole.begin(request, tell_and_wait))
            return self.futures[-1]

        self._hosted = replace(whole, begin=begin)
        return self._hosted

    def counts(self) -> EngineCounts:
        """Counts what the engine did."""
        assert self._hosted is not None
        return self._hosted.engine.counts()

    def given_up(self, texts: int) -> bool:
        """Says whether so many texts were asked for, and all given up."""
        return len(self.futures) == texts and all(future.cancelled() for future in self.futures)

    def tokens_in_the_end(self) -> int:
        """Lets the engine go on until nothing is left to do, and counts the tokens that it decoded."""
        self.released.set()
        eventually(lambda: not self.counts().queue.active_requests)
        return self.counts().stages["decode"].tokens


@pytest.fixture
def held(config: EngineConfig, tmp_path: Path) -> Iterator[tuple[Hold, EngineConfig]]:
    """Hosts an engine that is held, and gives the settings of models that have theirs there."""
    hold, path = Hold(), str(tmp_path / "engine")
    host = EngineHost(path, config, lambda: None, hold.load)
    yield hold, replace(config, engines_at=(path,), link_bytes=2**16)
    hold.released.set()
    host.close()


def test_what_a_front_that_goes_had_asked_for_ends_before_the_next_token(
    generator_bundle: Bundle, held: tuple[Hold, EngineConfig]
) -> None:
    hold, config = held
    link = Link.connect(config.engines_at[0], 2**16)
    order = EngineOrder(str(generator_bundle.path), generator_bundle.manifest.fingerprint, "")
    link.send(Message.OPEN, 0, Columns(order.values()))
    asked = {"ask": "write", "sampling": asdict(ENDLESS), "parts": True}
    request = Columns(
        {**asked, "timeout_s": None, "spent_s": 0.0, "priority": "interactive"}, {"prompt.ids": np.array([5])}
    )
    frames = link.frames()
    assert next(frames)[0] == Message.OPENED
    for text in range(1, 33):
        link.send(Message.SUBMIT, text, request)
    assert hold.reached.wait(60.0)
    link.close()
    eventually(lambda: hold.given_up(32))
    assert 0 < hold.tokens_in_the_end() < 32 * 8


def test_closing_a_stream_ends_its_text(generator_bundle: Bundle, held: tuple[Hold, EngineConfig]) -> None:
    hold, config = held
    with Generator.load(generator_bundle, config=config) as remote:
        streams = [remote.stream([5, number], ENDLESS) for number in range(32)]
        assert hold.reached.wait(60.0)
        for stream in streams:
            stream.close()
        eventually(lambda: hold.given_up(32))
        assert 0 < hold.tokens_in_the_end() < 32 * 8
        assert remote.generate([5, 99], Sampling(max_tokens=1)).usage.generated_tokens == 1


def test_a_caller_whose_function_raises_loses_its_own_text_alone(remote: Generator) -> None:
    def broken(part: GeneratedPart) -> None:
        raise ValueError("no")

    other = remote.submit_generate([6], ENDLESS)
    with pytest.raises(InvalidRequest, match="on_part raised ValueError: no"):
        remote.submit_generate([5], ENDLESS, on_part=broken).result(20)
    assert other.result(20).usage.generated_tokens == 64


def test_texts_that_are_under_way_when_the_engine_goes_are_unavailable(
    generator_bundle: Bundle, config: EngineConfig, tmp_path: Path
) -> None:
    hold, path = Hold(), str(tmp_path / "engine")
    host = EngineHost(path, config, lambda: None, hold.load)
    with Generator.load(generator_bundle, config=replace(config, engines_at=(path,))) as model:
        streams = [model.stream([5, number], ENDLESS) for number in range(4)]
        assert hold.reached.wait(60.0)
        closing = threading.Thread(target=host.close)
        closing.start()
        for stream in streams:
            with pytest.raises(Unavailable):
                stream.result()
        hold.released.set()
        closing.join()
