"""Engines over the reference backend, held in a pass while requests meet in the queue."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import (
    Unavailable,
)
from rankport.protos.priorities import Priority, own_priority
from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.ranker.engine import Engine, Scored
from rankport.runtime.scheduling.work import Request
from rankport.runtime.tokens import TokenRun
from support.reference_backend import ReferenceBackend, submit, token_run

WAIT_S = 30.0  # never reached; a hang becomes a failure
POISON = 49


@dataclass
class Gate:
    """Holds the engine in a pass until opened, so that what is submitted meanwhile meets in the queue."""

    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def __call__(self, kind: str, batch: PrefixBatch) -> None:
        self.reached.set()
        assert self.opened.wait(WAIT_S)


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@contextmanager
def running(backend: ReferenceBackend, config: EngineConfig = DEFAULTS, **options: Any) -> Iterator[Engine]:
    engine = Engine(backend, config, **options)
    try:
        yield engine
    finally:
        engine.close()


@contextmanager
def gated(
    config: EngineConfig = DEFAULTS,
    after: Callable[[str, PrefixBatch], None] | None = None,
    **options: Any,
) -> Iterator[tuple[Engine, ReferenceBackend, Gate]]:
    """An engine held in the pass of a first, plain request; `after` is called in every later pass."""
    gate = Gate()
    backend = ReferenceBackend()

    def before_pass(kind: str, batch: PrefixBatch) -> None:
        gate(kind, batch)
        if after is not None and len(backend.passes) > 0:
            after(kind, batch)

    backend.before_pass = before_pass
    with running(backend, config, **options) as engine:
        submit(engine, token_run(), [token_run(0)])
        assert gate.reached.wait(WAIT_S)
        try:
            yield engine, backend, gate
        finally:
            gate.opened.set()


def refuse_poison(kind: str, batch: PrefixBatch) -> None:
    if POISON in batch.runs.ids:
        raise ValueError("a poisoned token")


def expected(backend: ReferenceBackend, prefix: TokenRun, items: list[TokenRun]) -> np.ndarray:
    return np.stack([backend.model.full_sequence(prefix, item) for item in items])


def scored(future: "Future[Scored]") -> Scored:
    return future.result(WAIT_S)


ITEMS = [token_run(7), token_run(8, 9, 10), token_run(11, 12)]


def close_when_gated(engine: Engine, gate: Gate, grace_s: float) -> None:
    closing = threading.Thread(target=engine.close, args=(grace_s,))
    closing.start()
    while True:  # until the engine refuses, the close has not begun
        try:
            submit(engine, token_run(1), ITEMS).cancel()
        except Unavailable:
            break
    gate.opened.set()
    closing.join(WAIT_S)
    assert not closing.is_alive()


@dataclass(slots=True, eq=False, kw_only=True)
class Sized(Request):
    """A request of items of one token each."""

    name: str
    left: int
    had: int = 0

    @classmethod
    def of(cls, name: str, tokens: int, priority: Priority | None = None) -> Self:
        """Makes one that is whole; of the block's class where none is given."""
        return cls(
            tokens=tokens,
            to_compute=tokens,
            submitted_s=0.0,
            timeout_s=None,
            name=name,
            left=tokens,
            priority=priority or own_priority(),
        )

    @property
    def exhausted(self) -> bool:
        return not self.left

    @property
    def finished(self) -> bool:
        return not self.left

    def answer(self, waited_s: float) -> Any:
        return None


def ones(count: int) -> NDArray[np.int64]:
    """Makes the lengths of so many items. [count]"""
    return np.ones(count, np.int64)
