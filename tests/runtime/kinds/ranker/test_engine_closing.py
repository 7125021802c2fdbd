"""The engine closes with or without grace, from any thread, and leaves nobody waiting."""

import threading

import numpy as np
import pytest

from rankport.protos.errors import (
    Unavailable,
)
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.engine import Engine
from support.engines import (
    ITEMS,
    WAIT_S,
    Gate,
    close_when_gated,
    gated,
    scored,
)
from support.reference_backend import ReferenceBackend, submit, token_run


def test_close_fails_what_waits_and_frees_the_backend() -> None:
    with gated(EngineConfig(max_queued_requests=10**9)) as (engine, backend, gate):
        future = submit(engine, token_run(1), ITEMS)
        close_when_gated(engine, gate, grace_s=0.0)
        with pytest.raises(Unavailable, match="closed before"):
            scored(future)
        assert backend.closed
        with pytest.raises(Unavailable, match="closed"):
            submit(engine, token_run(1), ITEMS)
        engine.close()


def test_close_with_grace_answers_what_waits() -> None:
    with gated(EngineConfig(max_queued_requests=10**9)) as (engine, backend, gate):
        futures = [submit(engine, token_run(first), ITEMS) for first in (1, 2)]
        close_when_gated(engine, gate, grace_s=1000.0)
        for future in futures:
            assert np.isfinite(scored(future).logits).all()
        assert backend.closed


def test_a_second_close_cuts_the_grace_of_the_first() -> None:
    gate = Gate()
    engine = Engine(ReferenceBackend(before_pass=gate), EngineConfig(max_queued_requests=10**9))
    submit(engine, token_run(), [token_run(0)]).add_done_callback(lambda _: engine.close(0.0))
    assert gate.reached.wait(WAIT_S)
    future = submit(engine, token_run(1), ITEMS)
    close_when_gated(engine, gate, grace_s=1000.0)
    with pytest.raises(Unavailable, match="closed before"):
        scored(future)


def test_a_callback_may_close_the_engine() -> None:
    backend = ReferenceBackend()
    engine = Engine(backend)
    closed = threading.Event()

    def close(_: object) -> None:
        engine.close()
        closed.set()

    submit(engine, token_run(1), ITEMS).add_done_callback(close)
    assert closed.wait(WAIT_S)
    engine.close()
    assert backend.closed
