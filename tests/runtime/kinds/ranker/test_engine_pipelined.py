"""Passes under way: the next is begun before the last is waited for, and every request is answered all the same."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.errors import BackendError, Unavailable
from rankport.runtime.backends.contract import DeviceLost, PrefixBatch, Started
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.engine import Engine
from rankport.runtime.tokens import TokenRun
from support.reference_backend import ReferenceBackend, submit, token_run
from support.servers.supervised import eventually

WAIT_S = 30.0
ONE_REQUEST_A_PASS = EngineConfig(max_batch_tokens=3)
POISON = 49


@dataclass(eq=False)
class DeviceLike(ReferenceBackend):
    """Computes when the logits are asked for, as a device that is still at work would give them."""

    under_way: int = 0
    most_under_way: int = 0
    before_start: Callable[[str, PrefixBatch], None] = lambda kind, batch: None
    before_results: Callable[[PrefixBatch], None] = lambda batch: None
    order: list[int] = field(default_factory=list)
    started: int = 0

    def start(self, batch: PrefixBatch) -> Started[np.float32]:
        self.before_start("score", batch)
        number, self.started = self.started, self.started + 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)

        def logits() -> NDArray[np.float32]:
            self.under_way -= 1
            self.order.append(number)
            self.before_results(batch)
            return self.score(batch)

        return Started(logits, done=False)


@contextmanager
def held(
    backend: DeviceLike, config: EngineConfig = ONE_REQUEST_A_PASS
) -> Iterator[tuple[Engine, threading.Event]]:
    """An engine that waits in its first prefill, so that all that is submitted meets in the queue."""
    opened = threading.Event()
    backend.before_pass = lambda kind, batch: None if opened.wait(WAIT_S) else pytest.fail("never opened")
    engine = Engine(backend, config)
    try:
        yield engine, opened
    finally:
        opened.set()
        engine.close(WAIT_S)


def requests(count: int) -> list[tuple[TokenRun, list[TokenRun]]]:
    return [(token_run(1, 2, 3), [token_run(5 + i), token_run(6 + i, 7)]) for i in range(count)]


def test_two_passes_are_under_way_and_end_in_order_with_their_own_logits() -> None:
    backend = DeviceLike()
    asked = requests(6)
    with held(backend) as (engine, opened):
        futures = [submit(engine, prefix, items) for prefix, items in asked]
        opened.set()
        for future, (prefix, items) in zip(futures, asked, strict=True):
            expected = [backend.model.full_sequence(prefix, item) for item in items]
            np.testing.assert_allclose(future.result(WAIT_S).logits, expected, atol=1e-6)
    assert backend.most_under_way == 2
    assert backend.order == sorted(backend.order)
    assert backend.under_way == 0


def test_a_large_request_has_passes_of_its_own_under_way() -> None:
    backend = DeviceLike()
    prefix, items = token_run(1, 2), [token_run(3 + i % 40) for i in range(20)]
    with held(backend) as (engine, opened):
        future = submit(engine, prefix, items)
        opened.set()
        result = future.result(WAIT_S)
    expected = [backend.model.full_sequence(prefix, item) for item in items]
    np.testing.assert_allclose(result.logits, expected, atol=1e-6)
    assert backend.most_under_way == 2
    assert result.queue_s >= 0


def test_one_pass_at_most_follows_the_one_in_which_a_request_was_cancelled() -> None:
    def cancel_in_third(batch: PrefixBatch) -> None:
        if backend.order[-1] == 2:
            future.cancel()
            started.append(backend.started)

    started: list[int] = []
    backend = DeviceLike(before_results=cancel_in_third)
    with held(backend) as (engine, opened):
        future = submit(engine, token_run(1, 2), [token_run(3 + i % 40) for i in range(60)])
        opened.set()
        engine.close(WAIT_S)  # which lets it go on, were it not cancelled
    assert future.cancelled()
    assert started == [4]  # the third under way, and the one behind it
    assert backend.started == 4


def test_a_pass_that_fails_on_its_way_fails_its_requests_alone() -> None:
    def refuse(batch: PrefixBatch) -> None:
        if POISON in batch.runs.ids:
            raise RuntimeError("the device fell over")

    backend = DeviceLike(before_results=refuse)
    asked = requests(5)
    asked[2] = (token_run(1, 2, 3), [token_run(POISON), token_run(8, 9)])
    with held(backend) as (engine, opened):
        futures = [submit(engine, prefix, items) for prefix, items in asked]
        opened.set()
        with pytest.raises(BackendError, match=r"score failed.*the device fell over"):
            futures[2].result(WAIT_S)
        for index in (0, 1, 3, 4):
            assert np.isfinite(futures[index].result(WAIT_S).logits).all()


def test_a_failed_pass_of_a_large_request_fails_it_once_and_the_next_request_is_served() -> None:
    calls = iter([False, True] + [False] * 50)

    def second_fails(batch: PrefixBatch) -> None:
        if next(calls):
            raise RuntimeError("lost")

    backend = DeviceLike(before_results=second_fails)
    with held(backend) as (engine, opened):
        large = submit(engine, token_run(1), [token_run(3 + i % 40) for i in range(12)])
        small = submit(engine, token_run(1), [token_run(4)])
        opened.set()
        with pytest.raises(BackendError, match="lost"):
            large.result(WAIT_S)
        assert np.isfinite(small.result(WAIT_S).logits).all()
        assert engine.alive
        eventually(lambda: backend.under_way == 0)


@pytest.mark.parametrize("failed", range(4))
def test_what_was_started_beside_a_failed_pass_ends_without_a_further_request(failed: int) -> None:
    calls = iter([number == failed for number in range(60)])

    def one_fails(batch: PrefixBatch) -> None:
        if next(calls):
            raise RuntimeError("lost")

    backend = DeviceLike(before_results=one_fails)
    with held(backend) as (engine, opened):
        first = submit(engine, token_run(1), [token_run(3 + i) for i in range(8)])
        last = submit(engine, token_run(2), [token_run(4), token_run(5), token_run(6)])
        opened.set()
        lost = [future for future in (first, last) if future.exception(WAIT_S) is not None]
        assert len(lost) == 1
        assert isinstance(lost[0].exception(), BackendError)
        eventually(lambda: backend.under_way == 0)


def test_what_is_under_way_is_answered_when_the_engine_closes() -> None:
    backend = DeviceLike()
    with held(backend) as (engine, opened):
        futures = [submit(engine, prefix, items) for prefix, items in requests(4)]
        opened.set()
        engine.close(WAIT_S)
        assert all(np.isfinite(future.result(0).logits).all() for future in futures)
    assert backend.closed


def test_a_joint_pass_that_cannot_begin_is_begun_for_each_alone_with_its_own_logits() -> None:
    def too_large(kind: str, batch: PrefixBatch) -> None:
        if kind == "score" and len(batch.prefixes) > 1:
            raise MemoryError("no room for so many")

    backend = DeviceLike()
    asked = [(token_run(1, 2 + i), [token_run(10 + i), token_run(20 + i, 7)]) for i in range(7)]
    with held(backend, EngineConfig()) as (engine, opened):
        futures = [submit(engine, prefix, items) for prefix, items in asked]
        backend.before_start = too_large
        opened.set()
        for future, (prefix, items) in zip(futures, asked, strict=True):
            expected = [backend.model.full_sequence(prefix, item) for item in items]
            np.testing.assert_allclose(future.result(WAIT_S).logits, expected, atol=1e-6)
    assert backend.most_under_way <= 2


def test_a_lost_device_ends_the_engine_and_every_request_hears_of_it() -> None:
    def lost(batch: PrefixBatch) -> None:
        raise DeviceLost("CUDA: an illegal memory access")

    backend = DeviceLike(before_results=lost)
    with held(backend) as (engine, opened):
        futures = [submit(engine, prefix, items) for prefix, items in requests(5)]
        opened.set()
        for future in futures:
            with pytest.raises(
                Unavailable, match=r"lost its device: .*illegal memory access; load the model again"
            ):
                future.result(WAIT_S)
        assert not engine.alive
        assert engine.counts().stopped
        with pytest.raises(Unavailable):
            submit(engine, token_run(1), [token_run(2)])
