"""The engine of texts, of which encoders, cross-encoders, classifiers and towers are made: turns and cancellation."""

import threading
from concurrent.futures import Future
from contextlib import closing

import numpy as np
import pytest

from rankport.protos.errors import BackendError
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.hosted_engine import hosted_texts
from rankport.runtime.kinds.remote.messages import runs_columns
from rankport.runtime.kinds.remote_text_engine import weights_of
from rankport.runtime.kinds.text_engine import TextEngine, TextRows
from rankport.runtime.links.columns import Columns
from rankport.runtime.tokens import TokenRuns
from support.engines import Clock
from support.reference_backend import ReferenceEncodingBackend, token_run

WAIT_S = 30.0
CONFIG = EngineConfig(max_batch_tokens=100, max_bulk_tokens=10)


def texts(count: int, first: int = 0) -> TokenRuns:
    return TokenRuns.of([token_run((first + index) % 40) for index in range(count)])


def test_a_large_request_has_short_passes_while_small_ones_come() -> None:
    backend = ReferenceEncodingBackend()
    small: list[Future[TextRows]] = []
    done_after: list[int] = []

    def come_in_third_pass(_: TokenRuns) -> None:
        if len(backend.passes) == 2:
            small.append(engine.submit(texts(3, first=7)))
            small[0].add_done_callback(lambda _: done_after.append(len(backend.passes)))

    backend.before_pass = come_in_third_pass
    with closing(TextEngine(backend, CONFIG)) as engine:
        large = engine.submit(texts(400)).result(WAIT_S)
    own = np.stack([backend.tokens(run.ids) for run in texts(40)])
    np.testing.assert_array_equal(large.rows, np.tile(own, (10, 1, 1)))
    np.testing.assert_array_equal(small[0].result(WAIT_S).rows, own[7:10])
    assert done_after == [4]  # the third it came in, the fourth was its own
    assert [len(taken) for taken in backend.passes[:4]] == [100, 100, 100, 13]
    assert {len(taken) for taken in backend.passes[4:-1]} == {10}


def test_weights_are_those_rows_without_zeros_here_and_over_a_link() -> None:
    asked = texts(400)
    with closing(TextEngine(ReferenceEncodingBackend(), CONFIG)) as engine:
        expected = engine.submit(asked).result(WAIT_S).rows[:, 0]
        here = engine.submit_weights(asked).result(WAIT_S)
        values = {"timeout_s": None, "spent_s": 0.0, "priority": "interactive", "weights": True}
        request = Columns(values, runs_columns("texts", asked))
        answer = hosted_texts(engine).submit(request, lambda _: None).result(WAIT_S)
    for rows in (here.rows, weights_of(answer).rows):
        np.testing.assert_array_equal(rows.to_dense(), expected)
        assert rows.values.all()


def test_no_pass_follows_the_one_in_which_a_request_was_cancelled() -> None:
    backend = ReferenceEncodingBackend()
    asked: list[Future[TextRows]] = []

    def cancel_in_third_pass(_: TokenRuns) -> None:
        if len(backend.passes) == 2:
            assert submitted.wait(WAIT_S)
            asked[0].cancel()

    submitted = threading.Event()
    backend.before_pass = cancel_in_third_pass
    with closing(TextEngine(backend, CONFIG)) as engine:
        asked.append(engine.submit(texts(4000)))
        submitted.set()
        engine.close(WAIT_S)
    assert asked[0].cancelled()
    assert len(backend.passes) == 3


@pytest.mark.parametrize(("pass_s", "passes"), [(1.0, [300, 300]), (0.0, [600])], ids=["slow", "quick"])
def test_slow_passes_are_for_one_request_that_fills_them_and_quick_ones_are_shared(
    pass_s: float, passes: list[int]
) -> None:
    clock, backend = Clock(), ReferenceEncodingBackend()
    begun, go_on = threading.Event(), threading.Event()

    def hold(_: TokenRuns) -> None:
        begun.set()
        assert go_on.wait(WAIT_S)

    backend.before_pass = hold
    with closing(TextEngine(backend, clock=clock)) as engine:
        engine.submit(texts(1))
        assert begun.wait(WAIT_S)
        both = [engine.submit(texts(300)) for _ in range(2)]
        clock.now_s += pass_s
        go_on.set()
        rows = [each.result(WAIT_S).rows for each in both]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert [len(taken) for taken in backend.passes[1:]] == passes


def test_texts_go_on_in_one_instance_while_another_is_held() -> None:
    backend, held, opened = ReferenceEncodingBackend(), threading.Event(), threading.Event()

    def hold(given: TokenRuns) -> None:
        if 39 in given.ids:
            held.set()
            assert opened.wait(WAIT_S)

    backend.before_pass = hold
    with closing(TextEngine(backend, EngineConfig(instances=2, max_batch_tokens=3))) as engine:
        slow = engine.submit(texts(3, first=37))
        assert held.wait(WAIT_S)
        for first in (0, 10):
            rows = engine.submit(texts(7, first)).result(WAIT_S).rows
            np.testing.assert_array_equal(
                rows, np.stack([backend.tokens(run.ids) for run in texts(7, first)])
            )
        assert not slow.done()
        opened.set()
        assert len(slow.result(WAIT_S).rows) == 3


def test_texts_whose_joint_pass_failed_are_computed_for_each_alone() -> None:
    backend, held, opened = ReferenceEncodingBackend(), threading.Event(), threading.Event()

    def refuse(given: TokenRuns) -> None:
        held.set()
        assert opened.wait(WAIT_S)
        if 39 in given.ids:
            raise ValueError("no room")

    backend.before_pass = refuse
    with closing(TextEngine(backend, EngineConfig(instances=2, max_text_batch_tokens=8))) as engine:
        fill = [engine.submit(texts(8)) for _ in range(2)]
        assert held.wait(WAIT_S)
        good, bad = engine.submit(texts(2)), engine.submit(texts(2, first=38))
        opened.set()
        assert [len(future.result(WAIT_S).rows) for future in (*fill, good)] == [8, 8, 2]
        with pytest.raises(BackendError, match="encode failed on the device: ValueError: no room"):
            bad.result(WAIT_S)
