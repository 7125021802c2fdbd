"""The engine of texts, of which encoders, cross-encoders, classifiers and towers are made: turns and cancellation."""

import threading
from concurrent.futures import Future
from contextlib import closing

import numpy as np

from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.text_engine import TextEngine, TextRows
from rankport.runtime.tokens import TokenRuns
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
