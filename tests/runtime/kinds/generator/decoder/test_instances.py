"""Prompts that are read beside the steps of texts: the same texts, which go on meanwhile, and one step at a time."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np
import pytest

from rankport.protos.errors import BackendError
from rankport.protos.generation import GenerateResult, Sampling
from rankport.runtime.backends.contract import PrefixBatch, PrefixPieces
from rankport.runtime.backends.ort.decoding import OnnxRuntimeDecodeBackend
from rankport.runtime.backends.write_contract import SequenceKV
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.engines import local
from rankport.runtime.kinds.generator.generator import Generator

WAIT_S = 30.0
HELD, BAD = 77, 78
DRAWN = Sampling(max_tokens=12, temperature=1.0, seed=11)
PROMPTS = [[1, 40], [1, 41, 42, 43, 44, 45, 46], [1, *range(30, 60)], [5], [1, *range(30, 50), 7]]


class Watched(OnnxRuntimeDecodeBackend):
    """Holds prompts that have the token HELD, fails those with BAD, and knows who calls what at once."""

    def __init__(self, bundle: Bundle, config: EngineConfig) -> None:
        super().__init__(bundle, config)
        self.reached, self.opened = threading.Event(), threading.Event()
        self.prefilling, self.most_prefilling = 0, 0
        self.steps_beside = 0
        self.steppers, self.readers = set[int](), set[int]()
        self.lock = threading.Lock()

    def prefill(self, batch: PrefixBatch) -> PrefixPieces:  # type: ignore[override]
        with self.lock:
            self.prefilling += 1
            self.most_prefilling = max(self.most_prefilling, self.prefilling)
            self.readers.add(threading.get_ident())
        try:
            if HELD in batch.runs.ids:
                self.reached.set()
                assert self.opened.wait(WAIT_S)
            if BAD in batch.runs.ids:
                raise ValueError("a bad prompt")
            return super().prefill(batch)
        finally:
            with self.lock:
                self.prefilling -= 1

    def decode(self, sequences: Sequence[SequenceKV], tokens: np.ndarray) -> np.ndarray:
        self.steppers.add(threading.get_ident())
        self.steps_beside += bool(self.prefilling)
        return super().decode(sequences, tokens)


@pytest.fixture
def loaded(generator_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], object]:
    """Loads the generator in so many instances."""

    @contextmanager
    def load(instances: int) -> Iterator[tuple[Generator, Watched]]:
        made: list[Watched] = []

        def watched(bundle: Bundle, config: EngineConfig, *, gpu: int) -> Watched:
            made.append(Watched(bundle, config))
            return made[0]

        monkeypatch.setattr(local, "load_decode_backend", watched)
        config = EngineConfig(threads=instances, instances=instances, max_prefill_tokens=8)
        with Generator.load(generator_bundle, config=config) as generator:
            try:
                yield generator, made[0]
            finally:
                made[0].opened.set()

    return load


Load = Callable[[int], "contextmanager[tuple[Generator, Watched]]"]  # type: ignore[type-arg]


def result(future: "Future[GenerateResult]") -> GenerateResult:
    return future.result(WAIT_S)


def test_texts_are_those_of_one_instance(loaded: Load) -> None:
    with loaded(1) as (one, _):
        alone = [one.generate(prompt, DRAWN).token_ids for prompt in PROMPTS]
    with loaded(3) as (three, backend):
        together = [three.submit_generate(prompt, DRAWN) for prompt in PROMPTS * 4]
        assert [result(future).token_ids for future in together] == alone * 4
        assert len(backend.steppers) == 1
        assert not backend.steppers & backend.readers
        assert backend.most_prefilling <= 2, "one is the steps'"


def test_texts_go_on_while_a_prompt_is_read(loaded: Load) -> None:
    with loaded(2) as (generator, backend):
        expected = generator.generate([1, 40, 41], DRAWN).token_ids
        held = generator.submit_generate([1, HELD, 3], DRAWN)
        assert backend.reached.wait(WAIT_S)
        waiting = generator.submit_generate([1, 50, 51, 52], DRAWN)  # its prompt has no instance
        assert result(generator.submit_generate([1, 40, 41], DRAWN)).token_ids == expected
        assert backend.steps_beside >= len(expected)
        assert not held.done()
        assert not waiting.done()
        backend.opened.set()
        assert result(held).token_ids
        assert result(waiting).token_ids
        assert backend.most_prefilling == 1


def test_a_prompt_that_fails_under_way_fails_its_text_alone(loaded: Load) -> None:
    with loaded(2) as (generator, backend):
        other = generator.submit_generate([1, 40, 41], DRAWN)
        held = generator.submit_generate([1, HELD, 3], DRAWN)
        assert backend.reached.wait(WAIT_S)
        prompts = [[1, BAD, 4], [1, 60, 61], [1, 62, 63]]
        shared = [generator.submit_generate(prompt, DRAWN) for prompt in prompts]
        backend.opened.set()
        with pytest.raises(BackendError, match="ValueError: a bad prompt"):
            result(shared[0])
        for future in (other, held, *shared[1:]):
            assert len(result(future).token_ids) > 0


def test_a_text_that_is_cancelled_as_its_prompt_is_read_leaves_the_others_as_they_are(loaded: Load) -> None:
    with loaded(2) as (generator, backend):
        expected = generator.generate(PROMPTS[1], DRAWN).token_ids
        held = generator.submit_generate([1, HELD, 3], DRAWN)
        assert backend.reached.wait(WAIT_S)
        assert held.cancel()
        going = generator.submit_generate(PROMPTS[1], DRAWN)
        backend.opened.set()
        assert result(going).token_ids == expected
        assert generator.generate([1, HELD, 3], DRAWN).usage.prompt_tokens_cached == 2
