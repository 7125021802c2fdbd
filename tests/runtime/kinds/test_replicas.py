"""Several engines of one model: where a request goes, what a full or lost one does, and answers as of one engine."""

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, Overloaded, Unavailable
from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig, engine_config
from rankport.runtime.jobs.config import encode_job_config
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.list_ranker.list_ranker import ListRanker
from rankport.runtime.kinds.ranker.engine import Engine, Scored
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.text_engine import TextEngine
from rankport.runtime.scheduling.counts import CacheStats
from rankport.runtime.tokens import TokenRun, TokenRuns
from support.reference_backend import ReferenceBackend, ReferenceEncodingBackend, token_run

WAIT_S = 30.0
ITEMS = TokenRuns.of([token_run(7, 8), token_run(9)])


class Gate:
    """Lets passes begin once it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def __call__(self, kind: str, batch: PrefixBatch) -> None:
        assert self.opened.wait(WAIT_S)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()


@pytest.fixture
def backends(gate: Gate) -> list[ReferenceBackend]:
    return [ReferenceBackend(before_pass=gate) for _ in range(3)]


def replicas_of(backends: list[ReferenceBackend], slack_tokens: int = 100, **config: int) -> Replicas[Engine]:
    engines = {gpu: Engine(backend, EngineConfig(**config)) for gpu, backend in enumerate(backends)}
    return Replicas(engines, slack_tokens)


def submit(replicas: Replicas[Engine], prefix: TokenRun) -> "Future[Scored]":
    """A request of a few items, at home where its prefix says."""
    tokens = len(prefix.ids) + len(ITEMS.ids)
    return replicas.submit(
        lambda engine: engine.submit(prefix, ITEMS), tokens, lambda: crc32(prefix.ids.tobytes())
    )


def used(backends: list[ReferenceBackend]) -> list[int]:
    """Requests that each has scored, one pass a request."""
    return [sum(kind == "score" for kind, _ in backend.passes) for backend in backends]


def test_a_prefix_goes_where_it_went_before(backends: list[ReferenceBackend], gate: Gate) -> None:
    gate.opened.set()
    replicas = replicas_of(backends)
    for _ in range(4):
        submit(replicas, token_run(5, 6)).result(WAIT_S)
    assert sorted(used(backends)) == [0, 0, 4]
    stats = CacheStats.total([engine.cache_stats() for engine in replicas.engines])
    assert stats.tokens_computed == 2
    assert stats.budget_bytes == 3 * EngineConfig().prefix_cache_bytes
    for first in range(20):
        submit(replicas, token_run(first, 6)).result(WAIT_S)
    assert min(used(backends)) > 0  # others go elsewhere
    replicas.close()


def test_a_busy_home_is_left_for_the_idlest(backends: list[ReferenceBackend], gate: Gate) -> None:
    replicas = replicas_of(backends, slack_tokens=8)  # a request has 5 tokens
    futures = [submit(replicas, token_run(5, 6)) for _ in range(9)]
    gate.opened.set()
    logits = [future.result(WAIT_S).logits for future in futures]
    for other in logits:
        np.testing.assert_allclose(other, logits[0], atol=1e-5)
    touched = [bool(backend.passes) for backend in backends]
    replicas.close()
    assert all(touched)


def test_a_full_queue_sends_a_request_on_and_all_full_refuse(
    backends: list[ReferenceBackend], gate: Gate
) -> None:
    replicas = replicas_of(backends, slack_tokens=10**6, max_queued_requests=1, max_active_requests=1)
    futures: list[Future] = []

    def fill() -> None:
        while len(futures) < 50:
            futures.append(submit(replicas, token_run(5, 6)))

    with pytest.raises(Overloaded, match="the queue is full"):
        fill()
    assert len(futures) >= 3  # one a queue at least
    gate.opened.set()
    for future in futures:
        future.result(WAIT_S)
    replicas.close()


def test_a_lost_engine_gets_no_more_and_the_others_go_on(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    gate.opened.set()

    def broken(kind: str, batch: PrefixBatch) -> None:
        raise KeyboardInterrupt  # no error of a pass: it ends the thread

    backends = [ReferenceBackend(before_pass=broken), ReferenceBackend()]
    replicas = replicas_of(backends)
    outcomes = [submit(replicas, token_run(first, 6)) for first in range(8)]
    failed = 0
    for future in outcomes:
        try:
            future.result(WAIT_S)
        except Unavailable:
            failed += 1
    assert 1 <= failed < 8
    for first in range(8):
        submit(replicas, token_run(first, 6)).result(WAIT_S)
    assert replicas.alive
    assert caplog.text.count("the engine on GPU 0 has stopped; the others go on") == 1
    replicas.close()
    assert not replicas.alive
    with pytest.raises(Unavailable):
        submit(replicas, token_run(1))


def test_engines_close_at_the_same_time() -> None:
    asked: list[str] = []

    class Closing:
        alive = True

        def stop(self, grace_s: float = 0.0) -> None:
            asked.append(f"stop {grace_s}")

        def close(self, grace_s: float = 0.0) -> None:
            asked.append(f"close {grace_s}")

    Replicas({0: Closing(), 1: Closing()}).close(1.0)
    assert asked == ["stop 1.0", "stop 1.0", "close 1.0", "close 1.0"]


def test_a_callback_may_close_all(backends: list[ReferenceBackend], gate: Gate) -> None:
    gate.opened.set()
    replicas, closed = replicas_of(backends), threading.Event()

    def close(_: object) -> None:
        replicas.close()
        closed.set()

    submit(replicas, token_run(1)).add_done_callback(close)
    assert closed.wait(WAIT_S)
    replicas.close()
    assert all(backend.closed for backend in backends)


def test_an_engine_that_stopped_counts_for_nothing(gate: Gate) -> None:
    backends = [ReferenceBackend(before_pass=gate) for _ in range(2)]
    replicas = replicas_of(backends, slack_tokens=10**6, max_queued_requests=1, max_active_requests=1)
    dead, alive = replicas.engines
    dead.close()
    assert replicas.alive

    def fill() -> None:
        for _ in range(10):
            submit(replicas, token_run(5, 6))

    with pytest.raises(Overloaded):  # not Unavailable: a retry is right
        fill()
    gate.opened.set()
    alive.close(WAIT_S)


def test_texts_go_to_the_idlest() -> None:
    opened = threading.Event()
    backends = [ReferenceEncodingBackend(before_pass=lambda texts: assert_soon(opened)) for _ in range(2)]
    replicas = Replicas({gpu: TextEngine(backend) for gpu, backend in enumerate(backends)})
    texts = TokenRuns.of([token_run(4, 5), token_run(6)])
    futures = [replicas.submit(lambda engine: engine.submit(texts), 3) for _ in range(4)]
    opened.set()
    results = [future.result(WAIT_S).rows for future in futures]
    for other in results:
        np.testing.assert_array_equal(other, results[0])
    assert all(backend.passes for backend in backends)
    replicas.close()


def assert_soon(event: threading.Event) -> None:
    assert event.wait(WAIT_S)


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Each GPU is this CPU. Returns their numbers as they are loaded."""
    from rankport.runtime.backends import choice

    loaded: list[int] = []

    def with_cpu(make: Callable[..., object]) -> Callable[..., object]:
        def made(*bundle_and_role: object, gpu: int = 0) -> object:
            loaded.append(gpu)
            if gpu == 9:
                raise InvalidRequest("no such GPU")
            return make(*bundle_and_role[:-1], EngineConfig(threads=1))  # the last says the device

        return made

    monkeypatch.setattr(choice, "load_prefix_backend", with_cpu(choice.load_prefix_backend))
    monkeypatch.setattr(choice, "load_text_backend", with_cpu(choice.load_text_backend))
    monkeypatch.setattr(choice, "load_marked_backend", with_cpu(choice.load_marked_backend))
    return loaded


def test_a_ranker_of_lists_is_on_each_gpu(list_bundle: Bundle, on_cpu: list[int]) -> None:
    items = ["welder", "hospital nurse", "baker"]
    two = EngineConfig(device="cuda", device_ids=(2, 0))
    with ListRanker.load(list_bundle) as one, ListRanker.load(list_bundle, config=two) as both:
        assert on_cpu == [0, 2, 0]
        scores = one.score("nurse", items).scores
        asked = [both.submit("nurse", items) for _ in range(6)]
        for future in asked:
            np.testing.assert_array_equal(future.result(WAIT_S).scores, scores)
        assert both.counts().engines.keys() == {"cuda:2", "cuda:0"}


def test_a_ranker_and_an_encoder_of_two_gpus_answer_as_of_one(
    mix_bundle: Bundle, encoder_bundle: Bundle, on_cpu: list[int]
) -> None:
    two = EngineConfig(device="cuda", device_ids=(2, 0))
    with Ranker.load(mix_bundle) as one, Ranker.load(mix_bundle, config=two) as both:
        assert on_cpu == [0, 2, 0]
        for query in ("nurse", "pilot", "baker"):
            np.testing.assert_array_equal(
                one.score(query, ["cook", "chief cook"]).logits,
                both.score(query, ["cook", "chief cook"]).logits,
            )
        assert both.alive
    assert not both.alive
    with ItemEncoder.load(encoder_bundle) as alone, ItemEncoder.load(encoder_bundle, config=two) as pair:
        np.testing.assert_array_equal(alone.encode(["nurse", "cook"]), pair.encode(["nurse", "cook"]))


def test_a_gpu_that_cannot_be_loaded_leaves_no_engine_behind(mix_bundle: Bundle, on_cpu: list[int]) -> None:
    before = threading.active_count()
    with pytest.raises(InvalidRequest, match="no such GPU"):
        Ranker.load(mix_bundle, config=EngineConfig(device="cuda", device_ids=(0, 9)))
    assert threading.active_count() == before


@pytest.mark.parametrize("ids", [(), (0, 0), (-1,), (True,), ("0",), 0, "01"])
def test_numbers_of_gpus_are_checked(ids: Any) -> None:
    with pytest.raises(InvalidRequest, match=f"device_ids is {re.escape(repr(ids))}: give numbers of GPUs"):
        EngineConfig(device="cuda", device_ids=ids)


def test_numbers_of_gpus_may_be_a_list() -> None:
    given: Any = [1, 0]
    assert EngineConfig(device="cuda", device_ids=given).device_ids == (1, 0)


@pytest.mark.parametrize("config_of", [engine_config, encode_job_config])
@pytest.mark.parametrize("device", ["gpu", None, ["cuda"]])
def test_a_device_that_there_is_not_is_told(config_of: Callable[[Any], object], device: Any) -> None:
    told = re.escape(f"device is {device!r}: it must be one of cpu, cuda, tensorrt")
    with pytest.raises(InvalidRequest, match=told):
        config_of(device)


def test_a_cpu_has_no_replicas(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="a CPU has one engine"):
        EngineConfig(device_ids=(0, 1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"instances": 0}, "instances is 0: it must be from 1"),
        ({"instances": 4, "threads": 2}, "instances is 4 with threads 2: each pass has a thread at least"),
        (
            {"instances": 2, "device": "cuda"},
            "instances is 2 with device 'cuda': passes beside each other are a CPU's",
        ),
    ],
)
def test_instances_that_a_device_cannot_have_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        EngineConfig(**given)
